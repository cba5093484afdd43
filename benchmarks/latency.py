"""Latency of int8 and of gathered groups, one image on one thread: AlexNet and ResNet-50 in size, and ResNet-32.

    python benchmarks/latency.py run resnet50     # or alexnet, resnet32; needs 2 GB of memory
    python benchmarks/latency.py table            # results/latency.md and the docs' table, of all that has run

Every file is what the command writes in one go, or what ONNX Runtime's own tool makes of the model. All files of a
model, and the original, then run in turns in stock ONNX Runtime. The large graphs have He weights, so accuracy means
nothing here, and ``--epochs 0`` only projects. ResNet-32 is the trained one. Where other processes keep the machine
busy, the time of the processor is the better figure.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, ROOT, compress, fill_readme, machine, save, shared, table, without_details
from peers import quantize
from sized import build_alexnet, build_resnet50

from toolchain.bench import probe
from toolchain.bench.inputs import Prepared
from toolchain.bench.measurement import Settings, host_cases, make_job
from toolchain.bench.rows import HERE, latency_rows
from toolchain.export.sessions import open_session

RESNET50, ALEXNET, RESNET32 = "ResNet-50 size", "AlexNet size", "ResNet-32"
MODELS = {"resnet50": RESNET50, "alexnet": ALEXNET, "resnet32": RESNET32}
GRAPHS: dict[str, Callable[[Path], None]] = {RESNET50: build_resnet50, ALEXNET: build_alexnet}
PEER = "ONNX Runtime static"
CALIBRATION = 8  # images that the peer takes ranges from
TURNS = 50  # of the runs that are timed by the processor
SECONDS = 6.0  # of the runs that are timed by the clock, per file


@dataclass(frozen=True)
class Case:
    """A file that is timed: a model, what is asked of the command, nothing for the peer's, and the speedup to reach."""

    model: str
    options: str
    target: float | None = None

    @property
    def command(self) -> str:
        """What the table calls it."""
        return f"{self.options} --epochs 0" if self.options else PEER

    def file(self, folder: Path) -> Path:
        """Where its model goes."""
        words = "-".join(word.lstrip("-") for word in self.command.split())
        return folder / f"{self.model.replace(' ', '-')}-{words}.onnx"


CASES = (
    Case(RESNET50, "--prune 4x --structure groups", 2.8),
    Case(RESNET50, "--prune 8x --structure groups", 4.2),
    Case(RESNET50, ""),
    Case(RESNET50, "--quant 8bit", 3.4),
    Case(RESNET50, "--prune 4x --structure groups --quant 8bit", 5.3),
    Case(RESNET50, "--prune 8x --structure groups --quant 8bit", 6.5),
    Case(ALEXNET, "--prune 36x --structure groups", 5.0),
    Case(ALEXNET, ""),
    Case(ALEXNET, "--prune 36x --structure groups --quant 8bit", 9.0),
    Case(RESNET32, "--prune 2x --structure groups", 1.0),
    Case(RESNET32, "--prune 2.5x --structure groups", 1.0),
)


def run(name: str) -> None:
    """Make every file of a model, time them in turns, and save what was found."""
    folder = ROOT / "build" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    cases = [case for case in CASES if case.model == MODELS[name]]
    path = original(folder, MODELS[name])
    made = [make(case, path, case.file(folder)) for case in cases]
    files = [path, *(case.file(folder) for case in cases)]
    times, processor = in_turns(files), processor_ms(files)
    found = []
    for number, (case, result) in enumerate(zip(cases, made, strict=True)):
        figures = {"latency": times[number], "processor_ms": [processor[0], processor[number + 1]]}
        found.append({"model": case.model, "command": case.command, "target": case.target, **result, **figures})
        print(" ".join(row(found[-1])), flush=True)
    save(f"latency/{name}", {"cases": found, **machine()})


def write_table() -> None:
    """Write ``results/latency.md`` and the docs' table."""
    files = [RESULTS / "latency" / f"{name}.json" for name in MODELS]
    found = [case for file in files if file.exists() for case in json.loads(file.read_text())["cases"]]
    if not found:
        sys.exit("nothing has been measured yet; python benchmarks/latency.py run resnet32 is the shortest")
    header = [
        "model",
        "command",
        "kept weights",
        "file bytes",
        "smaller",
        "latency p50",
        "speedup (95 %)",
        "processor time",
        "asked for",
    ]
    text = table(header, [row(case) for case in found])
    (RESULTS / "latency.md").write_text(text)
    fill_readme("latency", text)
    print(text)


def original(folder: Path, model: str) -> Path:
    """Return the file of a model, built where it is not there yet."""
    if model not in GRAPHS:
        return shared("models", "resnet32_cifar10.onnx")
    path = folder / f"{model.replace(' ', '-')}.onnx"
    if not path.exists():
        GRAPHS[model](path)
    return path


def make(case: Case, path: Path, output: Path) -> dict[str, Any]:
    """Write the file of a case, and return what there is to say of it.

    Raises:
        RuntimeError: the peer could not.
    """
    started = time.monotonic()
    if not case.options:
        with tempfile.TemporaryDirectory() as name:
            target = Path(name) / output.name
            why = quantize(PEER, path, target, [images(path, seed) for seed in range(CALIBRATION)])
            if why:
                raise RuntimeError(f"{PEER} on {case.model}: {why}")
            output.write_bytes(target.read_bytes())
        sizes = path.stat().st_size, output.stat().st_size
        size = {"original_bytes": sizes[0], "compressed_bytes": sizes[1], "ratio": sizes[0] / sizes[1]}
        return {"seconds": time.monotonic() - started, "size": size}
    done = compress([str(path), *case.command.split()], output)
    kept = ("name", "shape", "nonzero", "structure", "kernel")
    tensors = [{key: tensor[key] for key in kept} for tensor in done.report["weights"]["tensors"]]
    return {
        "seconds": done.seconds,
        "size": done.report["size"],
        "weights": {key: value for key, value in done.report["weights"].items() if key != "tensors"},
        "tensors": tensors,
        "environment": done.report["environment"],
    }


def images(path: Path, seed: int) -> dict[str, np.ndarray]:
    """Return a batch of one random image for a model."""
    port = open_session(path, 1).get_inputs()[0]
    return {port.name: np.random.default_rng(seed).standard_normal((1, *port.shape[1:]), np.float32)}


def in_turns(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the latency of every file but the first beside the first's; all of them take turns."""
    settings = Settings(threads=(1,), providers=[probe.CPU], seconds=SECONDS * len(paths))
    with tempfile.TemporaryDirectory() as name:
        job = make_job(tuple(paths), settings, [Prepared(1, images(paths[0], 0), ())], Path(name))
        cases = host_cases(HERE, probe.run(job, Path(name), lambda _what, _done: None))
    return [without_details(latency_rows(cases, index))[0] for index in range(1, len(paths))]


def processor_ms(paths: Sequence[Path]) -> list[float]:
    """Return the median milliseconds of the processor that one run takes, which other processes hardly change."""
    sessions, image = [open_session(path, 1) for path in paths], images(paths[0], 0)
    times: list[list[float]] = [[] for _ in sessions]
    for _ in range(TURNS):
        for session, took in zip(sessions, times, strict=True):
            started = time.process_time()
            session.run(None, image)
            took.append(time.process_time() - started)
    return [1e3 * statistics.median(took) for took in times]


def row(case: dict[str, Any]) -> list[str]:
    """Return a line of the table."""
    size, latency = case["size"], case["latency"]
    low, high = latency["speedup_ci95"]
    before, after = case["processor_ms"]
    return [
        case["model"],
        f"`{case['command']}`" if "weights" in case else case["command"],
        f"{case['weights']['nonzero']:,}" if "weights" in case else "",
        f"{size['compressed_bytes']:,}",
        f"{size['ratio']:.1f}x",
        f"{latency['original']['p50_ms']:.2f} -> {latency['compressed']['p50_ms']:.2f} ms",
        f"{latency['speedup']:.2f}x ({low:.2f} to {high:.2f})",
        f"{before:.2f} -> {after:.2f} ms, {before / after:.2f}x",
        f"{case['target']:g}x" if case["target"] else "",
    ]


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run").add_argument("model", choices=MODELS)
    commands.add_parser("table")
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments.model)
    else:
        write_table()


if __name__ == "__main__":
    main()
