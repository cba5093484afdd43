"""What weights on grids lose without training: every way of rounding, side by side on the same calibration data.

    python benchmarks/quantization_values.py run resnet20 4bit     # one model and grid, every method, 2 to 10 minutes
    python benchmarks/quantization_values.py table                 # results/quantization_values.md, the README's table

Weights alone are on grids, scales per output channel, all layers; activations are float. 1,024 training images, whose
labels nobody looks at. Accuracy is on the 10,000 test images.
"""

import argparse
import json
import time
from collections.abc import Iterator

import numpy as np
import torch
from cifar10 import PREPROCESSING, images
from common import RESULTS, fill_readme, machine, save, shared, table
from lenet5 import digits

from calibration.data import Dataset, load_data
from passes.constraints import Levels, level_target
from passes.projection import project_onto
from passes.reconstruction import METHODS, Source, reconstruct
from toolchain.amounts import parse_quant
from toolchain.graph import Graph, find_weights, load_graph
from toolchain.module import OnnxModule

FILES = {"lenet5": "lenet5_mnist.onnx", "resnet20": "resnet20_cifar10.onnx", "resnet32": "resnet32_cifar10.onnx"}
PLAIN = "scales alone"  # nearest, and nothing else: no correction of means, no making up for earlier layers
SAMPLES, BATCH = 1024, 64
GRIDS = ("8bit", "4bit", "4bit,asymmetric", "3bit", "3bit,asymmetric", "2bit")


def datasets(model: str, graph: Graph) -> tuple[Dataset, Dataset]:
    """Return calibration and test images."""
    if model == "lenet5":
        train, test = digits()
    else:
        train, test = (load_data(str(path), graph, PREPROCESSING).train for path in images())
    rows = np.unique(np.linspace(0, len(train) - 1, SAMPLES).round().astype(np.int64))
    return train.subset(rows), test


def feeds(samples: Dataset) -> Iterator[tuple[int, dict[str, torch.Tensor]]]:
    """Yield the calibration images, a batch at a time, with their number."""
    for batch in samples.batches(BATCH):
        yield len(batch), {name: torch.from_numpy(array) for name, array in batch.feeds.items()}


@torch.no_grad()
def accuracy(module: OnnxModule, test: Dataset) -> float:
    """Return the fraction of the test images that are classified as labelled."""
    module.eval()
    hits = 0
    for batch in test.batches(250):
        (scores,) = module(batch.feeds).values()
        hits += int((scores.argmax(1).numpy() == batch.labels).sum())
    return hits / len(test)


def run(model: str, grid: str) -> None:
    """Round by every method and save what each loses."""
    graph = load_graph(shared("models", FILES[model]))
    samples, test = datasets(model, graph)
    spec = parse_quant(grid)
    targets = {item.name: level_target(spec, False, item.axis) for item in find_weights(graph) if not item.reason}
    rows = {}
    for method in (PLAIN, *METHODS):
        module, started = OnnxModule(graph).eval(), time.monotonic()
        if method == PLAIN:
            project_onto(module, tuple(targets), Levels(targets))
        else:
            reconstruct(module, targets, Source(lambda: feeds(samples), SAMPLES), method)
        seconds = time.monotonic() - started
        rows[method] = {"accuracy": accuracy(module, test), "seconds": seconds}
        print(model, grid, method, rows[method], flush=True)
    original = accuracy(OnnxModule(graph), test)
    save(
        f"quantization_values/{model}-{grid.replace(',', '-')}",
        {"model": model, "grid": grid, "samples": SAMPLES, "original": original, "rows": rows, **machine()},
    )


def write_table() -> None:
    """Write ``results/quantization_values.md`` and the README's table."""
    found = [json.loads(file.read_text()) for file in sorted((RESULTS / "quantization_values").glob("*.json"))]
    found.sort(key=lambda item: (item["model"], GRIDS.index(item["grid"])))
    methods = (PLAIN, *METHODS)
    rows = [
        [
            item["model"],
            f"`{item['grid']}`",
            f"{item['original']:.2%}",
            *(f"{item['rows'][method]['accuracy']:.2%}" for method in methods),
        ]
        for item in found
    ]
    text = table(["model", "grid", "original", *methods], rows)
    (RESULTS / "quantization_values.md").write_text(text)
    fill_readme("quantization_values", text)
    print(text)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run")
    one.add_argument("model", choices=sorted(FILES))
    one.add_argument("grid", choices=GRIDS)
    commands.add_parser("table")
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments.model, arguments.grid)
    else:
        write_table()


if __name__ == "__main__":
    main()
