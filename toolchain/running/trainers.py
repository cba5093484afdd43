"""Sets up the training of a run: the objective, the learning rate, how images are varied, what is normalised."""

from dataclasses import replace

import numpy as np
import torch

from passes.augment import choose_augmentation
from passes.normalization import normalizations
from passes.objective import Objective, find_spreads, objective_for
from passes.trainer import Trainer
from toolchain.errors import ModelError
from toolchain.module import OnnxModule
from toolchain.planning.plan import TrainOptions
from toolchain.progress import Progress
from toolchain.running.unfolding import bare_convolutions, unfold
from toolchain.running.workload import Workload

LEARNING_RATE = 2e-3
# Where BatchNormalization keeps its statistics it does not absorb large steps. ResNet-32, 2x and 8 bit, no data, 6
# epochs: 81.8 % of CIFAR-10 images right at 2e-3, 86.9 % at 2e-4 (90.0 % before; 1,000 images).
FIXED_NORM_LEARNING_RATE = 2e-4
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SMALLEST_NORM = 16  # samples at a time from which batch statistics mean something
SPREAD_SAMPLES = 16  # that the scale of an output is taken from; by time would not be the same again
MOMENT_SAMPLES = 1024  # that the statistics of a normalization that is lent are taken from


def make_trainer(
    options: TrainOptions, module: OnnxModule, teacher: OnnxModule, workload: Workload, progress: Progress
) -> Trainer:
    """Return what trains ``module`` to answer as ``teacher`` does.

    Raises:
        ModelError: no output can be compared.
        DataError: the images cannot be varied as asked.
    """
    graph, parts = module.graph, workload.split
    if not any(value.dtype.kind == "f" for value in graph.outputs) and options.epochs != 0:
        raise ModelError(
            f"none of the outputs {', '.join(value.name for value in graph.outputs)} is a float tensor: "
            "there is nothing that training could compare",
            hint="compress without training by --epochs 0, or export the model with its scores as an output",
        )
    # Outputs of one vector per sample hardly change when an image moves by a pixel; maps of pixels move along.
    movable = all(value.shape is not None and len(value.shape) <= 2 for value in graph.outputs)
    moves = parts.train.kind != "synthetic" and (graph.batch_size or SMALLEST_NORM) >= SMALLEST_NORM
    rate = LEARNING_RATE if moves or not normalizations(module) else FIXED_NORM_LEARNING_RATE
    return Trainer(
        module=module,
        teacher=teacher,
        data=parts.train,
        selection=parts.selection,
        objective=_objective(teacher, workload),
        batch_size=options.batch_size,
        learning_rate=options.learning_rate or rate,
        precision=PRECISIONS[options.precision],
        augmentation=choose_augmentation(options.augment, parts.train.batch(np.arange(1)).inputs, movable),
        moves_normalization=moves,
        rng=np.random.default_rng(options.seed),
        progress=progress,
    )


def _objective(teacher: OnnxModule, workload: Workload) -> Objective:
    """Return the objective that fits the model, in units of what it answers to a few of the training samples."""
    objective, data = objective_for(teacher.graph, workload.classes), workload.split.train
    names = [name for name in objective.outputs if name not in objective.normalised]
    if not names:
        return objective
    portion = teacher.graph.batch_size or 1
    # From everywhere in the data, which may lie in the order of their classes.
    rows = np.linspace(0, len(data) - 1, max(SPREAD_SAMPLES, portion)).round().astype(np.int64)
    batches = (data.batch(part) for part in rows[: len(rows) // portion * portion].reshape(-1, portion))
    return replace(objective, spreads=find_spreads((teacher(batch.feeds) for batch in batches), names))


def lend_normalization(options: TrainOptions, trainer: Trainer) -> tuple[str, ...]:
    """Give the module of ``trainer`` normalizations for the time of training; return the names of their nodes.

    There are none where nothing is trained, where batch statistics say little, and for models whose outputs
    are maps: an image in, an image out, and what normalises by the batch changes how bright it is.
    """
    graph = trainer.module.graph
    maps = any(value.shape is None or len(value.shape) > 2 for value in graph.outputs)
    wanted = options.epochs != 0 and options.renormalize == "auto"
    convolutions = bare_convolutions(graph) if wanted and trainer.moves_normalization and not maps else []
    if not convolutions:
        return ()
    size, count = trainer.batch_samples, len(trainer.data)
    # From everywhere in the data, which may lie in the order of their classes.
    rows = np.linspace(0, count - 1, -(-min(MOMENT_SAMPLES, count) // size) * size).round().astype(np.int64)
    batches = (trainer.tensors(trainer.data.batch(part))[0] for part in rows.reshape(-1, size))
    unfolded, names = unfold(trainer.module.eval(), convolutions, batches)
    trainer.module = OnnxModule(unfolded).to(trainer.module.device)
    return names
