"""ResNet-20, ResNet-32 and VGG-16 on CIFAR-10, against a baseline that is fine-tuned on the labels for as many epochs.

    python benchmarks/cifar10.py baseline resnet20 --epochs 10     # the original, trained on by the labels
    python benchmarks/cifar10.py run resnet20 10x --epochs 10      # one row; rows: see ROWS
    python benchmarks/cifar10.py latency                           # every file made so far against its original
    python benchmarks/cifar10.py table                             # results/cifar10.md, and the fronts as drawings

Images are the JPEG-compressed CIFAR-10, on which the original has 87.67 % (ResNet-20) and 88.06 % (ResNet-32);
points are counted from the original, and from the baseline of as many epochs or from the original where that is better.
A star marks rows whose epochs have no baseline: they are counted from the usual one. ``vgg16.py`` makes the VGG-16.
Accuracy is on the 10,000 test images, which neither train nor select. Models stay in ``build/benchmarks``.
"""

import argparse
import json
import re
import sys
import time
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from common import (
    RESULTS,
    ROOT,
    compress,
    fill_readme,
    machine,
    read_times,
    save,
    save_times,
    shared,
    table,
    timed,
    without_details,
)
from drawing import write_front

from calibration.data import Dataset, Preprocessing, load_data
from passes.allowance import Allowance
from passes.finetune import FinetuneStage
from passes.rate import find_learning_rate
from passes.trainer import Trainer
from passes.training import Training
from toolchain import save as save_model
from toolchain.augmentation import parse_augment
from toolchain.graph import load_graph
from toolchain.measure import measure_latency, quality_section
from toolchain.measure.charts.runs import Point
from toolchain.module import OnnxModule
from toolchain.planning.plan import TrainOptions
from toolchain.progress import NullProgress
from toolchain.running.refolding import refold
from toolchain.running.trainers import lend_normalization, make_trainer
from toolchain.running.workload import load_workload

PREPROCESSING = Preprocessing(1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
DATA = ("data", "cifar10_jpeg.zip")
# Few weights in few epochs do not even fit the images as they are. 10x, 4 epochs, points lost: 3.55 with flipped images
# alone, 4.3 where they are moved as well. Peak learning rates: 3.55 at 2e-3, 3.96 at 1e-3.
AUGMENT, SEED = "flip", 0
PRECISION: Literal["bfloat16"] = "bfloat16"
OPTIONS = TrainOptions(augment=parse_augment(AUGMENT), precision=PRECISION, seed=SEED)
ROWS = {
    "5x": ["--prune", "5x"],
    "10x": ["--prune", "10x"],
    "20x": ["--prune", "20x"],
    "40x": ["--prune", "40x"],
    "10x-bare": ["--prune", "10x", "--recipe", "benchmarks/bare.toml"],  # without the normalizations that are lent
    "groups2x": ["--prune", "2x", "--structure", "groups"],
    "groups4x": ["--prune", "4x", "--structure", "groups"],
    "groups4x-round8": ["--prune", "4x", "--structure", "groups", "--round", "8"],  # in multiples of 16: 2.74x at most
    "groups8x": ["--prune", "8x", "--structure", "groups"],
    # By products, for speed; by parameters, for accuracy.
    "groups8x-flops": ["--prune", "8x", "--structure", "groups", "--allocate", "flops"],
    "groups4x-parameters": ["--prune", "4x", "--structure", "groups", "--allocate", "parameters"],
    "groups8x-parameters": ["--prune", "8x", "--structure", "groups", "--allocate", "parameters"],
    "channel2x": ["--prune", "2x", "--structure", "channel", "--round", "8"],
    "filter2x": ["--prune", "2x", "--structure", "filter", "--round", "8"],
    "channel4x": ["--prune", "4x", "--structure", "channel"],
    "channel8x": ["--prune", "8x", "--structure", "channel"],
    "int8": ["--quant", "8bit"],
    "2bit": ["--quant", "2bit"],
    "binary": ["--quant", "binary"],
    "auto": ["--quant", "auto", "--max-drop", "0.5"],
    "groups2x-int8": ["--prune", "2x", "--structure", "groups", "--quant", "8bit"],
}
# No faster than int8, so not on the front of speed.
ONLY_SMALLER = ("5x", "10x", "20x", "40x", "10x-bare", "2bit", "binary")
EPOCHS = {"resnet20": 10, "resnet32": 5, "vgg16": 4}  # unless another number is asked for
MODELS = tuple(EPOCHS)
FILES = ROOT / "build" / "benchmarks"


def options(model: str, epochs: int) -> list[str]:
    """Return what every command has in common."""
    numbers = [",".join(map(str, values)) for values in (PREPROCESSING.mean, PREPROCESSING.std)]
    train, test = images()
    data = ["--data", str(train), "--eval", str(test), "--scale", "1/255", "--mean", numbers[0], "--std", numbers[1]]
    training = ["--epochs", str(epochs), "--augment", AUGMENT, "--precision", PRECISION, "--seed", str(SEED)]
    return [str(original(model)), *data, *training]


def images() -> tuple[Path, Path]:
    """Return the folders of the training and the test images, unpacked once."""
    folder = FILES / "cifar10"
    if not folder.exists():
        draft = folder.with_suffix(".draft")
        with zipfile.ZipFile(shared(*DATA)) as archive:
            archive.extractall(draft)
        draft.rename(folder)
    return folder / "train", folder / "test"


def original(model: str) -> Path:
    """Return the model's file, or end with the reason why the benchmark is skipped."""
    if model != "vgg16":
        return shared("models", f"{model}_cifar10.onnx")
    if not (FILES / "vgg16.onnx").exists():
        sys.exit("skipped: there is no VGG-16 yet; python benchmarks/vgg16.py trains it")
    return FILES / "vgg16.onnx"


def _name(model: str, row: str, epochs: int) -> str:
    """Return what the files of a row are called; one of another number of epochs has a file of its own."""
    return f"{model}-{row}" if epochs == EPOCHS[model] else f"{model}-{row}-{epochs}epochs"


def run(model: str, row: str, epochs: int) -> None:
    """Compress once and save what came out."""
    FILES.mkdir(parents=True, exist_ok=True)
    name = _name(model, row, epochs)
    output = FILES / f"{name}.onnx"
    done = compress([*options(model, epochs), *ROWS[row]], output)
    kept = {key: done.report[key] for key in ("size", "quality", "latency", "parity", "timings", "environment")}
    weights = {key: done.report["weights"][key] for key in ("total", "nonzero", "dead", "ratio")}
    save(
        f"cifar10/{name}",
        {
            "command": " ".join(ROWS[row]),
            "epochs": epochs,
            "seed": SEED,
            "seconds": done.seconds,
            **machine(),
            **without_details(kept),
            "weights": weights,
        },
    )


def baseline(model: str, epochs: int) -> None:
    """Train the original on by the labels, with the same images and for as long, and save its accuracy at the end.

    By the labels alone: nothing answers more like the original than itself, so distillation would keep it as it is. At
    the end and not at its best: the images that select are among those that the originals were trained on, so that no
    state ever looks better on them than the original itself.
    """
    FILES.mkdir(parents=True, exist_ok=True)
    trainer, test = prepare(model)
    trainer.objective = replace(trainer.objective, distillation=0.0)
    lent = lend_normalization(OPTIONS, trainer)
    started = time.monotonic()
    trainer.learning_rate = find_learning_rate(trainer, Allowance()) or trainer.learning_rate
    allowance = Allowance(steps=epochs * trainer.steps_per_epoch)
    training = Training(trainer, FinetuneStage("baseline", trainer.module), allowance)
    while (done := training.done()) < 1:
        training.advance(done)
    trainer.settle()
    seconds = time.monotonic() - started
    name = _name(model, "baseline", epochs)
    output = FILES / f"{name}.onnx"
    trained = refold(trainer.module.eval(), lent)
    trained.move_to(torch.device("cpu"))
    save_model(trained, output)
    quality = quality_section(original(model), output, test)
    save(
        f"cifar10/{name}",
        {
            "epochs": epochs,
            "learning_rate": trainer.learning_rate,
            "seconds": seconds,
            **machine(),
            "quality": without_details(quality),
        },
    )


def prepare(model: str) -> tuple[Trainer, Dataset]:
    """Return what trains the original as ``compress`` would, and the test images."""
    torch.manual_seed(SEED)
    graph = load_graph(original(model))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    teacher, module = OnnxModule(graph).to(device).eval(), OnnxModule(graph).to(device)
    train_images, test_images = (str(folder) for folder in images())
    workload = load_workload(teacher, train_images, test_images, PREPROCESSING, SEED)
    return make_trainer(OPTIONS, module, teacher, workload, NullProgress()), workload.split.evaluation


def latency() -> None:
    """Time every file in the build folder against its original, interleaved in this one process."""
    rows = {}
    for file in sorted(file for model in MODELS for file in FILES.glob(f"{model}-*.onnx")):
        model, _, row = file.stem.partition("-")
        graph = load_graph(original(model))
        first = load_data(str(images()[1]), graph, PREPROCESSING).train.batch(np.arange(1))
        measured = measure_latency(original(model), file, first, threads=1, seconds=10.0)
        rows[f"{model}-{row}"] = without_details(measured)[0]
    save_times("cifar10", rows)


def write_table() -> None:
    """Write ``results/cifar10.md``, the table in ``docs`` and a front of accuracy against latency per model."""
    times = read_times("cifar10")
    results = {file.stem: json.loads(file.read_text()) for file in (RESULTS / "cifar10").glob("*-*.json")}
    rows, drawn = [], []
    for model in MODELS:
        names = [name for row in ("baseline", *ROWS) for name in _names_of(model, row, results)]
        if not names:
            continue
        first = results[names[0]]["quality"]["original"]
        rows.append([model, "original", "", "1x", f"{100 * first:.2f} %", "", "", "1x"])
        rows += [_row(name, results, times) for name in names]
        fast = [
            name for name in names if results[name]["epochs"] == EPOCHS[model] and _row_of(name) not in ONLY_SMALLER
        ]
        if len(fast) > 1:
            drawn.append(model)
            dense = timed(names[0], results[names[0]], times)["original"]["p50_ms"]
            write_front(f"cifar10/{model}-front", model, [_point(name, results[name], times, dense) for name in fast])
    header = ["model", "command", "epochs", "smaller", "accuracy", "from original", "from baseline", "speedup (95 %)"]
    text = table(header, rows)
    (RESULTS / "cifar10.md").write_text(text)
    fronts = [
        f"![{model}: accuracy against latency](../benchmarks/results/cifar10/{model}-front.svg)" for model in drawn
    ]
    fill_readme("cifar10", "\n".join([text, *fronts, ""]) if fronts else text)
    print(text)


def _names_of(model: str, row: str, results: Mapping[str, Any]) -> list[str]:
    """Return what the results of a row are called, those of fewer epochs first."""
    found = [name for name in results if name.partition("-")[0] == model and _row_of(name) == row]
    return sorted(found, key=lambda name: int(results[name]["epochs"]))


def _row_of(name: str) -> str:
    return re.sub(r"-[0-9]+epochs$", "", name.partition("-")[2])


def _row(name: str, results: Mapping[str, Any], times: dict[str, Any]) -> list[str]:
    model, row, result = name.partition("-")[0], _row_of(name), results[name]
    same, usual = (_name(model, "baseline", epochs) for epochs in (result["epochs"], EPOCHS[model]))
    known = same if same in results else usual
    accuracy, original = result["quality"]["compressed"], result["quality"]["original"]
    best = max(original, results[known]["quality"]["compressed"]) if known in results else original
    row_times = timed(name, result, times)
    low, high = row_times["speedup_ci95"]
    return [
        model,
        "fine-tuned, not compressed" if row == "baseline" else f"`{result['command']}`",
        str(result["epochs"]),
        f"{result['size']['ratio']:.1f}x" if "size" in result else "1x",
        f"{100 * accuracy:.2f} %",
        f"{100 * (accuracy - original):+.2f}",
        f"{100 * (accuracy - best):+.2f}" + ("" if same in results else " *"),
        f"{row_times['speedup']:.2f}x ({low:.2f} to {high:.2f})",
    ]


def _point(name: str, result: dict[str, Any], times: dict[str, Any], dense: float) -> Point:
    """Return a point of the front: its latency by its speedup over the dense model, whose time differs between runs."""
    row = _row_of(name)
    label = "dense" if row == "baseline" else row
    return Point(label, label, dense / timed(name, result, times)["speedup"], result["quality"]["compressed"])


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("baseline", "run"):
        command = commands.add_parser(name)
        command.add_argument("model", choices=MODELS)
        if name == "run":
            command.add_argument("row", choices=ROWS)
        command.add_argument("--epochs", type=int, help=f"default: {EPOCHS}")
    for name in ("latency", "table"):
        commands.add_parser(name)
    arguments = parser.parse_args()
    if "epochs" in arguments and arguments.epochs is None:
        arguments.epochs = EPOCHS[arguments.model]
    if arguments.command == "run":
        run(arguments.model, arguments.row, arguments.epochs)
    elif arguments.command == "baseline":
        baseline(arguments.model, arguments.epochs)
    else:
        {"latency": latency, "table": write_table}[arguments.command]()


if __name__ == "__main__":
    main()
