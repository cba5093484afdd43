"""What loading and varying images takes of a training step, in seconds of the processor on one thread.

    python benchmarks/loading.py          # writes results/loading.json and the table in docs; a minute

A step is all of it: the batch, the original's answers, the student forward and backward, Adam. Batches alone and whole
steps take turns in one process.
"""

import statistics
import time
from typing import Any

import cifar10
import lenet5
import torch
from common import RESULTS, fill_readme, machine, save, shared, table, take_no_arguments

from passes.allowance import Allowance
from passes.finetune import FinetuneStage
from passes.trainer import Trainer
from passes.training import Training
from toolchain.augmentation import NONE, SHIFT, Augmentation
from toolchain.graph import load_graph
from toolchain.module import OnnxModule
from toolchain.planning.plan import TrainOptions
from toolchain.progress import NullProgress
from toolchain.running.trainers import make_trainer
from toolchain.running.workload import load_workload

AUGMENTS = {
    "LeNet-5": (NONE, SHIFT, Augmentation(shift=4)),
    "ResNet-20": (NONE, Augmentation(flip=True), Augmentation(shift=4, flip=True)),
}
TURNS, STEPS = 12, 20  # the first turn allocates


def main() -> None:
    """Measure every model with every augmentation and write the table."""
    take_no_arguments(__doc__)
    torch.set_num_threads(1)
    rows = [measure(model, augment) for model, wishes in AUGMENTS.items() for augment in wishes]
    save("loading", {"rows": rows, **machine()})
    header = ["model", "images per step", "`--augment`", "batch", "whole step", "part of the step"]
    text = table(header, [_cells(row) for row in rows])
    (RESULTS / "loading.md").write_text(text)
    fill_readme("loading", text)
    print(text)


def measure(model: str, augment: Augmentation) -> dict[str, Any]:
    """Return the median seconds of a batch and of a whole step."""
    trainer = lenet() if model == "LeNet-5" else cifar10.prepare("resnet20")[0]
    trainer.augmentation = augment
    training = Training(trainer, FinetuneStage("plain", trainer.module), Allowance(steps=TURNS * STEPS))
    batches = trainer.batches()
    took: dict[str, list[float]] = {"batch": [], "step": []}
    for turn in range(TURNS):
        started = time.process_time()
        for _ in range(STEPS):
            trainer.tensors(next(batches))
        loaded = time.process_time()
        for _ in range(STEPS):
            training.advance(0.5)
        if turn:
            took["batch"].append((loaded - started) / STEPS)
            took["step"].append((time.process_time() - loaded) / STEPS)
    ratio = statistics.median(a / b for a, b in zip(took["batch"], took["step"], strict=True))
    seconds = {f"{name}_s": statistics.median(found) for name, found in took.items()}
    return {"model": model, "augment": str(augment), "batch_size": trainer.batch_samples, "share": ratio, **seconds}


def lenet() -> Trainer:
    """Return what trains LeNet-5 as ``compress`` would."""
    graph = load_graph(shared(*lenet5.MODEL))
    teacher, module = OnnxModule(graph).eval(), OnnxModule(graph)
    workload = load_workload(teacher, str(shared(*lenet5.DATA)), None, lenet5.PREPROCESSING, 0)
    return make_trainer(TrainOptions(), module, teacher, workload, NullProgress())


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["model"],
        str(row["batch_size"]),
        f"`{row['augment']}`",
        f"{1000 * row['batch_s']:.2f} ms",
        f"{1000 * row['step_s']:.1f} ms",
        f"{100 * row['share']:.1f} %",
    ]


if __name__ == "__main__":
    main()
