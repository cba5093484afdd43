"""Runs the plan's passes over the model: prune, quantize, choose kernels, fine-tune."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from calibration.collect import collect_grids
from passes.admm_training import Penalty
from passes.allowance import Allowance
from passes.constraints import Budget, Levels, LevelTarget, levels_for
from passes.finetune import FinetuneStage
from passes.prune import Prune
from passes.quantize import Quantize
from passes.rounding import round_biases
from passes.trainer import Trainer
from passes.training import train
from toolchain.amounts import QuantSpec
from toolchain.export import KernelChoice, activation_values, choose_kernels
from toolchain.formats import TensorFormat
from toolchain.graph import find_weights
from toolchain.module import OnnxModule
from toolchain.plan import DEFAULT_EPOCHS, DEFAULT_SECONDS, Plan

SPARSE = 0.1  # a tensor with this part of exact zeros was pruned; trained weights are hardly ever exactly zero

# Parts of the whole job's time, for the time left.
TRAINING_WEIGHT = 0.85
KERNELS_WEIGHT = 0.04


@dataclass
class Deadline:
    """Shares the time for training among phases; what one phase leaves over goes to the next.

    Attributes:
        steps: optimizer steps in all, or None.
        until: ``time.monotonic()`` at which training must end, or None.
        left: share of the training that is still to come, 0..1.
    """

    steps: int | None
    until: float | None
    left: float = 1.0

    def take(self, share: float) -> Allowance:
        """Return the allowance of a phase that is ``share`` of the whole training."""
        seconds = None
        if self.until is not None:
            seconds = max(0.0, self.until - time.monotonic()) * min(1.0, share / max(self.left, 1e-9))
        self.left -= share
        steps = None if self.steps is None else round(self.steps * share)
        return Allowance(steps, seconds, TRAINING_WEIGHT * share)


@dataclass
class Compression:
    """What the passes did, for exporter and report.

    Attributes:
        kernels: the chosen kernel by node name.
        log: interim figures of all phases.
    """

    kernels: dict[str, KernelChoice] = field(default_factory=dict)
    log: list[Mapping[str, float | int | str]] = field(default_factory=list)


def deadline_for(plan: Plan, steps_per_epoch: int, until: float | None) -> Deadline:
    """Return the training time: the plan's epochs, its budget (``until``), or the defaults."""
    if plan.train.epochs is not None:
        return Deadline(plan.train.epochs * steps_per_epoch, None)
    if until is not None:
        return Deadline(None, until)
    return Deadline(DEFAULT_EPOCHS * steps_per_epoch, time.monotonic() + DEFAULT_SECONDS)


def run_passes(plan: Plan, trainer: Trainer, sample: Mapping[str, np.ndarray], deadline: Deadline) -> Compression:
    """Run every step of ``plan`` on ``trainer.module`` in place.

    Args:
        plan: what to do.
        trainer: the model, its teacher and data.
        sample: one model input batch, on which kernels are timed.
        deadline: how long to train.
    """
    done = Compression()
    quant_share = 0.0
    if plan.quantize is not None:
        quant_share = plan.quant_schedule.time_share if plan.prune is not None else 1.0
    if plan.prune is not None:
        done.log.extend(_prune_pass(plan).run(trainer, deadline.take(1 - quant_share)).log)
    if plan.quantize is not None:
        quantize = _quantize_pass(plan, trainer)
        admm_share = plan.quant_schedule.admm_share
        done.log.extend(quantize.run(trainer, deadline.take(quant_share * admm_share)).log)
        done.kernels = _kernels(plan, trainer, sample)
        done.log.extend(_train_in_grid(trainer, quantize.constraint, deadline.take(quant_share * (1 - admm_share))))
        round_biases(trainer.module)
    return done


def _prune_pass(plan: Plan) -> Prune:
    schedule = plan.prune_schedule
    groups = plan.prune.groups if plan.prune is not None else ()
    return Prune(
        budgets=tuple(Budget(group.names, group.kept) for group in groups),
        penalty=Penalty(schedule.rho, schedule.update_every),
        score=schedule.score,
        start=schedule.progressive_start,
        admm_share=schedule.admm_share,
    )


def _quantize_pass(plan: Plan, trainer: Trainer) -> Quantize:
    axes = {weight.name: weight.axis for weight in find_weights(trainer.module.graph)}
    targets = plan.quantize.targets if plan.quantize is not None else ()
    _keep_zeros(trainer.module, [name for name, _ in targets])
    pruned = {name for name, fmt in trainer.module.formats.items() if fmt.mask is not None}
    return Quantize(
        targets={name: LevelTarget(_levels(spec, name in pruned), axes[name]) for name, spec in targets},
        penalty=Penalty(plan.quant_schedule.rho, plan.quant_schedule.update_every, settled=0.0),
    )


def _keep_zeros(module: OnnxModule, names: list[str]) -> None:
    """Give a tensor that comes with many zeros a mask, so that what somebody pruned before stays pruned."""
    for name in names:
        weight = module.tensor(name).detach()
        if name not in module.formats and float((weight == 0).float().mean()) >= SPARSE:
            module.formats[name] = TensorFormat(weight != 0)


def _levels(spec: QuantSpec, pruned: bool) -> tuple[int, ...]:
    if spec.kind == "binary":
        return (-1, 1)
    if spec.kind == "ternary":
        return (-1, 1) if pruned else (-1, 0, 1)  # a pruned tensor has its zeros in the mask
    return levels_for(spec.bits, pruned)


def _kernels(plan: Plan, trainer: Trainer, sample: Mapping[str, np.ndarray]) -> dict[str, KernelChoice]:
    """Choose kernels, and give the activations that they want in 8 bits their calibrated grids."""
    trainer.progress.phase("choose kernels", KERNELS_WEIGHT)
    module, device = trainer.module, trainer.module.device
    module.eval()
    module.move_to(torch.device("cpu"))  # the runtime that is timed, and the exporter, work there
    kernels = choose_kernels(module, sample, plan.export.threads, plan.export.kernel)
    module.move_to(device)
    names = activation_values(module.graph, {node: choice.kernel for node, choice in kernels.items()})
    if names:
        options, size = plan.calibration, trainer.portion or 16
        samples = max(size, min(options.samples, len(trainer.data)) // size * size)
        grids = collect_grids(module, names, trainer.data, options.observer, size, samples)
        module.formats.update({name: TensorFormat(grid=grid) for name, grid in grids.items()})
    return kernels


def _train_in_grid(trainer: Trainer, constraint: Levels, allowance: Allowance) -> list[Mapping[str, float | int | str]]:
    if allowance.is_empty:
        trainer.settle()
        return []
    stage = FinetuneStage("train in grid", trainer.module, constraint)
    return list(train(trainer, stage, allowance))
