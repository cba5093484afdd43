"""Real models of many kinds: imported, compared with ONNX Runtime, trained a step, written back.

python benchmarks/import_zoo.py [NAME ...]

Parity: the largest difference to ONNX Runtime (graph optimizations off) over the largest value, in evaluation mode, of
all outputs, at most 1e-4 (5e-3 in half precision). Where it is more, and everywhere with ``--nodes``, every node is run
on the values that ONNX Runtime has there. Where a node is still further off, both are compared with onnx's reference
implementation in double precision, which shares no code with either: the module must be within the bound, and the
closer one. Such models are counted apart: their outputs as a whole do differ.

Training: the weights are moved a little at random, and one step along the gradient of the distance to the module's own
outputs before must bring it closer. Every tensor's step is as long as it was moved, halved until the distance falls, so
this shows that the gradient points downhill, not how well a model trains. Where the outputs are classes or decisions,
which have no gradient, or do not depend on the weights at the given input, the results of the last layers with weights
stand for them. What trains in part or not at all is in ``tests/ops/known_gaps.py``, and the run fails where that is
wrong.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from common import ROOT, machine, save, shared, table
from torch import Tensor

sys.path.append(str(ROOT / "tests" / "ops"))

from known_gaps import DOES_NOT_TRAIN, TRAINS_IN_PART
from real_models import FILES, bound_of, error_of, feed_of, node_by_node, run_module, session

from toolchain.graph import Graph, load_graph
from toolchain.module import OnnxModule

DISTURBANCE = 0.02  # of the spread of each weight tensor
HALVINGS = 20


def parity(graph: Graph, module: OnnxModule, feed: Mapping[str, np.ndarray], every_node: bool) -> dict[str, Any]:
    """Return how far the module is from ONNX Runtime, and which nodes explain it."""
    names = [value.name for value in graph.outputs]
    wanted = dict(zip(names, session(graph.proto.SerializeToString()).run(names, feed), strict=True))
    got = run_module(module, feed)
    errors = {name: error_of(got[name], wanted[name]) for name in names}
    close = all(error <= bound_of(wanted[name]) for name, error in errors.items())
    result: dict[str, Any] = {"error": max(errors.values()), "close": close, "agrees": close}
    if close and not every_node:
        return result
    nodes = node_by_node(graph, feed)
    wrong = [node for node in nodes if not node.agrees]
    off = [node for node in nodes if node.agrees and node.error > node.bound]
    return result | {
        "agrees": not wrong,
        "nodes": len(nodes),
        "wrong": [f"{node.op} {node.name}: {node.failure or node.error}" for node in wrong],
        "runtime_off": [
            {"op": node.op, "node": node.name, "module": node.own, "onnxruntime": node.runtime} for node in off
        ],
    }


def training(module: OnnxModule, feed: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Move the weights, and return how much one step along the gradient brings the results back."""
    outputs = [value.name for value in module.graph.outputs]
    for where, names in (("outputs", outputs), ("last layers", list(last_layers(module)))):
        start = {name: weight.detach().clone() for name, weight in module.weights().items()}
        result = {"on": where, **step_back(module, feed, names)}
        with torch.no_grad():
            for name, weight in module.weights().items():
                weight.copy_(start[name])
        if result["reached"]:
            break
    return result


def last_layers(module: OnnxModule) -> Iterator[str]:
    """Yield the results of the last nodes with weights on the way to every output."""
    weights, waiting, seen = module.weights(), [value.name for value in module.graph.outputs], set()
    producers = {name: node for node in module.graph.nodes for name in node.outputs}
    while waiting:
        name = waiting.pop()
        if name in seen or name not in producers:
            continue
        seen.add(name)
        if any(read in weights for read in producers[name].inputs):
            yield name
        else:
            waiting += producers[name].reads


def step_back(module: OnnxModule, feed: Mapping[str, np.ndarray], names: list[str]) -> dict[str, Any]:
    """Disturb the weights, step once, and return the distance before and after; the step is halved until it helps."""
    with torch.no_grad():
        teacher = module.run(feed, names)
    weights = list(module.weights().values())
    sizes = disturb(weights)
    before = distance(module.run(feed, names), teacher)
    if before.requires_grad:
        before.backward()  # type: ignore[no-untyped-call]
    norms = [0.0 if weight.grad is None else float(weight.grad.double().norm()) for weight in weights]
    reached = sum(norm > 0 for norm in norms)
    result: dict[str, Any] = {"weights": len(weights), "reached": reached, "before": float(before.detach())}
    result |= {"after": None, "halvings": None}
    at = [weight.detach().clone() for weight in weights]
    for halving in range(HALVINGS if reached else 0):
        with torch.no_grad():
            for weight, there, size, norm in zip(weights, at, sizes, norms, strict=True):
                if norm:
                    weight.copy_(there - weight.grad * (size / norm / 2**halving))
            result |= {"after": float(distance(module.run(feed, names), teacher)), "halvings": halving}
        if result["after"] < result["before"]:
            break
    module.zero_grad()
    return result


def disturb(weights: list[torch.nn.Parameter]) -> list[float]:
    """Add noise to the weights and return how far each of them moved."""
    generator = torch.Generator().manual_seed(0)
    moved = []
    for weight in weights:
        noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        values = weight.detach().double()
        spread = values.std(correction=0) if values.numel() > 1 else values.abs().mean()
        with torch.no_grad():
            weight.add_((DISTURBANCE * (spread or values.abs().mean()) * noise).to(weight.dtype))
        moved.append(float((weight.detach().double() - values).norm()))
    return moved


def distance(results: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
    """Return the mean squared difference of the float results, in units of the teacher's own mean square."""
    total = torch.zeros((), dtype=torch.float64)
    for name, wanted in teacher.items():
        if wanted.is_floating_point():
            unit = wanted.double().square().mean().clamp_min(1e-30)
            total = total + (results[name].double() - wanted.double()).square().mean() / unit
    return total


def examine(path: Path, every_node: bool) -> dict[str, Any]:
    """Return what is found about one model."""
    started = time.perf_counter()
    graph = load_graph(path)
    module = OnnxModule(graph).eval()
    seconds = time.perf_counter() - started
    feed = feed_of(path, graph)
    return {
        "model": path.stem,
        "nodes": len(list(graph.walk())),
        "import_ms": round(1000 * seconds, 1),
        "islands": [island.operators for island in module.program.islands],
        "parity": parity(graph, module, feed, every_node),
        "training": training(module, feed),
        "round_trip": graph.proto.SerializeToString() == path.read_bytes(),
    }


def trains(row: Mapping[str, Any]) -> str:
    """Return what of the model trains: ``"all"``, ``"last layers"`` (seen there only), ``"part"`` or ``"nothing"``."""
    step = row["training"]
    if row["model"] in DOES_NOT_TRAIN or not step["reached"] or not step["after"] < step["before"]:
        return "nothing"
    if step["reached"] < step["weights"]:
        return "part"
    return "all" if step["on"] == "outputs" else "last layers"


def as_expected(row: Mapping[str, Any]) -> bool:
    """Return whether a model agrees, survives, and trains but for what is listed."""
    listed = "nothing" if row["model"] in DOES_NOT_TRAIN else "part" if row["model"] in TRAINS_IN_PART else ""
    trained = trains(row)
    right = trained == listed if listed else trained in ("all", "last layers")
    return bool(row["parity"]["agrees"] and row["round_trip"] and right)


def cells(row: Mapping[str, Any]) -> list[str]:
    """Return a model's line of the table."""
    step, compared = row["training"], row["parity"]
    off = compared.get("runtime_off", [])
    note = ""
    if not compared["agrees"]:
        note = f"{len(compared['wrong'])} nodes wrong"
    elif not compared["close"]:
        note = "every node agrees on ONNX Runtime's values"
        worst = max(off, key=lambda node: node["onnxruntime"], default=None)
        if worst:
            note += f"; its {worst['op']} is off by {worst['onnxruntime']:.0e}, ours by {worst['module']:.0e}"
    fall = "no" if step["after"] is None else f"{step['before']:.1e} to {step['after']:.1e}"
    return [
        row["model"],
        str(row["nodes"]),
        f"{row['import_ms']:.0f}",
        f"{compared['error']:.0e}",
        note,
        {**TRAINS_IN_PART, **DOES_NOT_TRAIN}.get(row["model"], ""),
        f"{step['reached']} of {step['weights']}",
        f"{fall}{' (last layers)' if step['on'] != 'outputs' else ''}",
        str(step["halvings"]),
        "yes" if row["round_trip"] else "no",
        ", ".join(dict.fromkeys(row["islands"])),
    ]


def summary(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Return how many models do what."""
    trained = [trains(row) for row in rows]
    return {
        "imported": len(rows),
        "agree_on_outputs": sum(row["parity"]["close"] for row in rows),
        "agree_node_by_node_only": sum(row["parity"]["agrees"] and not row["parity"]["close"] for row in rows),
        "same_bytes": sum(row["round_trip"] for row in rows),
        "train": trained.count("all"),
        "train_seen_on_last_layers": trained.count("last layers"),
        "train_in_part": trained.count("part"),
        "do_not_train": trained.count("nothing"),
    }


def report(rows: list[dict[str, Any]]) -> str:
    """Return the figures as Markdown."""
    lines = [f"- {name.replace('_', ' ')}: {count}" for name, count in summary(rows).items()]
    header = ["model", "nodes", "import ms", "error", "parity", "training", "weights with gradient", "distance"]
    return "\n".join(lines) + "\n\n" + table([*header, "halvings", "same bytes", "islands"], list(map(cells, rows)))


def main() -> None:
    """Examine the models and write down what is found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="models, all if none is named")
    parser.add_argument("--nodes", action="store_true", help="compare every node of every model")
    arguments = parser.parse_args()
    shared("models", "zoo")
    torch.set_num_threads(1)
    rows = []
    for path in FILES:
        if arguments.names and path.stem not in arguments.names:
            continue
        rows.append(examine(path, arguments.nodes))
        print("ok  " if as_expected(rows[-1]) else "FAIL", " | ".join(cells(rows[-1])), flush=True)
    text = report(rows)
    print(text)
    if not arguments.names:
        versions = {"onnxruntime": onnxruntime.__version__, "torch": torch.__version__}
        path = save("import_zoo", {**summary(rows), "rows": rows, **versions, **machine()})
        path.with_suffix(".md").write_text(text)
    sys.exit(0 if all(map(as_expected, rows)) else 1)


if __name__ == "__main__":
    main()
