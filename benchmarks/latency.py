"""Latency of gathered groups, one image on one thread: AlexNet and ResNet-50 in size, and ResNet-32.

    python benchmarks/latency.py            # needs 2 GB of memory; writes results/latency.json and the README's table

Every file is what the command writes, and is timed by it in stock ONNX Runtime in turns with the original. The large
graphs have He weights, so accuracy means nothing here, and ``--epochs 0`` only projects. ResNet-32 is the trained one.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import RESULTS, ROOT, compress, fill_readme, machine, save, shared, table, without_curves
from sized import build_alexnet, build_resnet50

GRAPHS: dict[str, Callable[[Path], None]] = {"ResNet-50 size": build_resnet50, "AlexNet size": build_alexnet}
RESNET32 = "ResNet-32"

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
    header = ["model", "command", "kept weights", "file bytes", "smaller", "latency p50", "speedup (95 %)", "asked for"]
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
    done = compress([str(path), *command], folder / f"{path.stem}-{options[1]}-groups.onnx")
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
        "latency": without_curves(done.report["latency"])[0],
        "weights": {key: value for key, value in done.report["weights"].items() if key != "tensors"},
        "tensors": tensors,
        "environment": done.report["environment"],
    }


def row(case: dict[str, Any]) -> list[str]:
    """Return a line of the table."""
    size, latency = case["size"], case["latency"]
    low, high = latency["speedup_ci95"]
    return [
        case["model"],
        f"`{case['command']}`",
        f"{case['weights']['nonzero']:,}",
        f"{size['compressed_bytes']:,}",
        f"{size['ratio']:.1f}x",
        f"{latency['original']['p50_ms']:.2f} -> {latency['compressed']['p50_ms']:.2f} ms",
        f"{latency['speedup']:.2f}x ({low:.2f} to {high:.2f})",
        f"{case['target']:g}x",
    ]


if __name__ == "__main__":
    main()
