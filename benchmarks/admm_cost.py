"""What ADMM costs beside plain training at 25 and 62 million weights: time per step, memory, bytes of the file.

    python benchmarks/admm_cost.py          # needs 6 GB of memory; writes results/admm_cost.json and the README's table

A plain step is what this tool trains with anyway: forward, the teacher's forward, backward, Adam. An ADMM step has the
pull towards Z as well, and every 32nd updates Z and U, with the projection. The steps of both take turns in one process
on one thread, in seconds of the processor; the peak memory is that of a process for each, after updates and an
evaluation. Weights are He, inputs noise; files are written after one projection, ranked by LAMP without costs, with
gathered kernels for groups. Reads ``/proc``: Linux.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, ROOT, fill_readme, machine, save, table
from import_size import peak
from sized import build_alexnet, build_resnet50

from calibration.data import Dataset, Preprocessing
from passes.allowance import Allowance
from passes.constraints import TopK
from passes.finetune import FinetuneStage
from passes.objective import objective_for
from passes.projection import project_onto
from passes.prune import Prune
from passes.trainer import Trainer
from passes.training import Training
from toolchain.augmentation import NONE
from toolchain.export import Wish, choose_kernels, kernel_names, write_model
from toolchain.graph import find_weights, load_graph
from toolchain.module import OnnxModule
from toolchain.planning.request import Request, read_request
from toolchain.planning.resolve import make_plan
from toolchain.progress import NullProgress
from toolchain.running.compression import prune_pass

GRAPHS: dict[str, tuple[Callable[[Path], None], int]] = {
    "ResNet-50 size": (build_resnet50, 4),  # samples per step; with the tool's own 128 the rest of a step weighs more
    "AlexNet size": (build_alexnet, 16),
}
CASES = (("36x", "unstructured"), ("61x", "unstructured"), ("8x", "groups"))
UPDATE_EVERY = 32
TURNS = 2


def main() -> None:
    """Measure all cases, or, in a process of its own, one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", nargs=4, metavar=("GRAPH", "PRUNE", "STRUCTURE", "WHAT"))
    child = parser.parse_args().child
    if child is not None:
        print(json.dumps(WHAT[child[3]](*child[:3])))
        return
    cases: list[dict[str, Any]] = []
    for name in GRAPHS:
        for case in measure(name):
            cases.append(case)
            report(cases)


def report(cases: list[dict[str, Any]]) -> None:
    """Write what is measured so far: all of it takes long."""
    save("admm_cost", {"cases": cases, **machine()})
    header = ["model", "pruned", "kept weights", "file bytes", "plain step", "ADMM step", "extra time", "extra memory"]
    text = table(header, [row(case) for case in cases])
    (RESULTS / "admm_cost.md").write_text(text)
    fill_readme("admm_cost", text)
    print(text)


def path_of(name: str) -> Path:
    """Return the model, which is built if it is not there yet."""
    path = ROOT / "build" / "benchmarks" / f"{name.replace(' ', '-')}.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        GRAPHS[name][0](path)
    return path


def measure(name: str) -> Iterator[dict[str, Any]]:
    """Yield what children in processes of their own measured of every case."""
    path_of(name)
    plain = run([name, *CASES[0], "plain"])["peak_bytes"]
    for prune, structure in CASES:
        case: dict[str, Any] = {"model": name, "prune": prune, "structure": structure, "batch": GRAPHS[name][1]}
        for what in ("time", "memory", "file"):
            case |= run([name, prune, structure, what])
        case |= {"plain_peak_bytes": plain, "extra_copies": (case["peak_bytes"] - plain) / case["weight_bytes"]}
        yield case


def run(child: list[str]) -> dict[str, Any]:
    """Return what a child measured."""
    call = [sys.executable, __file__, "--child", *child]
    found: dict[str, Any] = json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)
    return found


def trainer_for(name: str) -> Trainer:
    """Return what training on noise needs."""
    graph = load_graph(path_of(name))
    wanted = graph.inputs[0].shape
    assert wanted is not None
    shape = [2 * GRAPHS[name][1], *(int(size or 0) for size in wanted[1:])]
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    data = Dataset({"image": images}, None, Preprocessing(), "unlabelled", "noise")
    return Trainer(
        module=OnnxModule(graph),
        teacher=OnnxModule(graph).eval(),
        data=data,
        selection=data,
        objective=objective_for(graph, None),
        batch_size=GRAPHS[name][1],
        learning_rate=1e-4,
        precision=torch.float32,
        augmentation=NONE,
        moves_normalization=False,
        rng=np.random.default_rng(0),
        progress=NullProgress(),
    )


def pass_for(trainer: Trainer, prune: str, structure: str) -> Prune:
    """Return the pass that the command would run."""
    plan = make_plan(trainer.module.graph, read_request(Request(prune=prune, structure=structure)))
    return prune_pass(plan, trainer.teacher, {}, {})


def training(trainer: Trainer, pruning: Prune | None) -> Training:
    """Return a training whose steps are to be taken one by one: plain, or under ADMM."""
    stage = FinetuneStage("plain", trainer.module) if pruning is None else pruning.phases()[0].begin(trainer.module)
    return Training(trainer, stage, Allowance(steps=1000))


def step(under_way: Training, number: int) -> float:
    """Take a step at half of the way and return the seconds of the processor that it took."""
    under_way.step = number
    started = time.process_time()
    under_way.advance(0.5)
    return time.process_time() - started


def times(name: str, prune: str, structure: str) -> dict[str, Any]:
    """Return the median seconds of a plain step, and how often that an ADMM step takes, updates spread over all."""
    torch.set_num_threads(1)
    trainer = trainer_for(name)
    weights = sum(weight.numel() for weight in trainer.module.parameters())
    plain, admm = training(trainer, None), training(trainer, pass_for(trainer, prune, structure))
    took: dict[str, list[float]] = {"plain": [], "pull": [], "update": []}
    for turn in range(TURNS + 1):
        found = step(plain, 1), step(admm, 1), step(admm, UPDATE_EVERY)
        if turn:  # the first steps allocate
            for key, seconds in zip(took, found, strict=True):
                took[key].append(seconds)
    # Differences within a turn, so that a change of the machine's speed meets both sides.
    pull = statistics.median(b / a for a, b in zip(took["plain"], took["pull"], strict=True))
    update = statistics.median(b / a for a, b in zip(took["plain"], took["update"], strict=True))
    ratio = (pull * (UPDATE_EVERY - 1) + update) / UPDATE_EVERY
    return {"plain_s": statistics.median(took["plain"]), "ratio": ratio, "weight_bytes": 4 * weights}


def memory(name: str, prune: str, structure: str) -> dict[str, int]:
    """Return the peak memory of a process that trains under ADMM, with two updates."""
    return _memory(name, lambda trainer: pass_for(trainer, prune, structure))


def plain_memory(name: str, _prune: str, _structure: str) -> dict[str, int]:
    """Return the peak memory of a process that trains."""
    return _memory(name, lambda _: None)


def _memory(name: str, make: Callable[[Trainer], Prune | None]) -> dict[str, int]:
    torch.set_num_threads(1)
    trainer = trainer_for(name)
    under_way = training(trainer, make(trainer))
    for number in (0, 1, UPDATE_EVERY, 1):
        step(under_way, number)
    under_way.evaluate(0.95)  # when the set is at its target: what is judged is kept as the best so far
    return {"peak_bytes": peak()}


def written(name: str, prune: str, structure: str) -> dict[str, int]:
    """Return the weights that are kept and the bytes of the file."""
    trainer = trainer_for(name)
    pruning, module = pass_for(trainer, prune, structure), trainer.module
    project_onto(module, pruning.names, TopK(pruning.budgets, "lamp", pruning.layouts))
    kernels = choose_kernels(module, {}, Wish("gathered"))
    proto = write_model(module, kernel_names(kernels)).proto
    prunable = [weight.name for weight in find_weights(module.graph) if not weight.reason]
    return {
        "weights": sum(module.tensor(tensor).numel() for tensor in prunable),
        "kept": sum(int(torch.count_nonzero(module.tensor(tensor))) for tensor in prunable),
        "original_bytes": path_of(name).stat().st_size,
        "file_bytes": proto.ByteSize(),
    }


WHAT: dict[str, Callable[[str, str, str], dict[str, Any]]] = {
    "time": times,
    "memory": memory,
    "plain": plain_memory,
    "file": written,
}


def row(case: dict[str, Any]) -> list[str]:
    """Return a line of the table."""
    plain, ratio = case["plain_s"], case["ratio"]
    return [
        case["model"],
        f"{case['prune']} {case['structure']}",
        f"{case['kept']:,} of {case['weights']:,}",
        f"{case['file_bytes']:,} ({case['original_bytes'] / case['file_bytes']:.1f}x)",
        f"{plain:.2f} s, {case['batch']} images",
        f"{plain * ratio:.2f} s",
        f"{100 * (ratio - 1):.1f} %",
        f"{case['extra_copies']:.1f} copies",
    ]


if __name__ == "__main__":
    main()
