"""Latency of gathered groups, one image on one thread: AlexNet and ResNet-50 in size, and ResNet-32.

    python benchmarks/latency.py            # needs 2 GB of memory; writes results/latency.json and the README's table

Every file is what the command writes, and is timed by it in stock ONNX Runtime in turns with the original. The large
graphs have He weights, so accuracy means nothing here, and ``--epochs 0`` only projects. ResNet-32 is the trained one.
Where other processes keep the machine busy, the time of the processor is the better figure.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, ROOT, compress, fill_readme, machine, save, shared, table, without_details
from sized import build_alexnet, build_resnet50

from toolchain.export.sessions import open_session

GRAPHS: dict[str, Callable[[Path], None]] = {"ResNet-50 size": build_resnet50, "AlexNet size": build_alexnet}
RESNET32 = "ResNet-32"
TURNS = 50  # of the runs that are timed by the processor

# Model, options, and the speedup that is to be reached.
CASES = (
    ("ResNet-50 size", ("--prune", "4x", "--structure", "groups"), 2.8),
    ("ResNet-50 size", ("--prune", "8x", "--structure", "groups"), 4.2),
    ("AlexNet size", ("--prune", "36x", "--structure", "groups"), 5.0),
    (RESNET32, ("--prune", "2x", "--structure", "groups"), 1.0),
    (RESNET32, ("--prune", "2.5x", "--structure", "groups"), 1.0),
)


def main() -> None:
    """Compress every case and save what the reports say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", type=int, nargs="*", help="numbers of the cases, from 0; prints and saves nothing")
    only = parser.parse_args().only
    folder = ROOT / "build" / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    cases = [measure(folder, *case) for number, case in enumerate(CASES) if only is None or number in only]
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
    text = table(header, [row(case) for case in cases])
    print(text)
    if only is None:
        save("latency", {"cases": cases, **machine()})
        (RESULTS / "latency.md").write_text(text)
        fill_readme("latency", text)


def measure(folder: Path, model: str, options: tuple[str, ...], target: float) -> dict[str, Any]:
    """Return what the report of one command says."""
    path = (
        shared("models", "resnet32_cifar10.onnx") if model == RESNET32 else folder / f"{model.replace(' ', '-')}.onnx"
    )
    if model in GRAPHS and not path.exists():
        GRAPHS[model](path)
    command = [*options, "--epochs", "0"]
    output = folder / f"{path.stem}-{options[1]}-groups.onnx"
    done = compress([str(path), *command], output)
    tensors = [
        {key: tensor[key] for key in ("name", "shape", "nonzero", "structure", "kernel")}
        for tensor in done.report["weights"]["tensors"]
    ]
    return {
        "model": model,
        "command": " ".join(command),
        "target": target,
        "seconds": done.seconds,
        "size": done.report["size"],
        "latency": without_details(done.report["latency"])[0],
        "processor_ms": processor_ms(path, output),
        "weights": {key: value for key, value in done.report["weights"].items() if key != "tensors"},
        "tensors": tensors,
        "environment": done.report["environment"],
    }


def processor_ms(*paths: Path) -> list[float]:
    """Return the median milliseconds of the processor that one run takes, which other processes hardly change."""
    sessions = [open_session(path, 1) for path in paths]
    port = sessions[0].get_inputs()[0]
    image = np.random.default_rng(0).standard_normal((1, *port.shape[1:]), np.float32)
    times: list[list[float]] = [[] for _ in sessions]
    for _ in range(TURNS):
        for session, took in zip(sessions, times, strict=True):
            started = time.process_time()
            session.run(None, {port.name: image})
            took.append(time.process_time() - started)
    return [1e3 * statistics.median(took) for took in times]


def row(case: dict[str, Any]) -> list[str]:
    """Return a line of the table."""
    size, latency = case["size"], case["latency"]
    low, high = latency["speedup_ci95"]
    before, after = case["processor_ms"]
    return [
        case["model"],
        f"`{case['command']}`",
        f"{case['weights']['nonzero']:,}",
        f"{size['compressed_bytes']:,}",
        f"{size['ratio']:.1f}x",
        f"{latency['original']['p50_ms']:.2f} -> {latency['compressed']['p50_ms']:.2f} ms",
        f"{latency['speedup']:.2f}x ({low:.2f} to {high:.2f})",
        f"{before:.2f} -> {after:.2f} ms, {before / after:.2f}x",
        f"{case['target']:g}x",
    ]


if __name__ == "__main__":
    main()
