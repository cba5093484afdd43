"""Decides how the file computes: calibrates activations, spares nodes that they hurt, chooses kernels by time."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from calibration.collect import Sampling, collect_candidates, collect_grids
from calibration.data import Batch, Dataset
from toolchain.export import (
    LOSS_SECONDS,
    KernelChoice,
    Meter,
    Wish,
    activation_formats,
    choose_kernels,
    could_be_int8,
    find_loss,
    kernel_names,
)
from toolchain.export.runs import STATIC, rounded_values
from toolchain.export.ties import avoid_ties
from toolchain.formats import Grid
from toolchain.module import OnnxModule
from toolchain.planning.plan import CalibrationOptions, ExportOptions
from toolchain.running.correction import Correction

# Samples that the loss of every node is measured on, and as many that biases are corrected by; fewer of a slow model.
MEASURED_SAMPLES = 64
MEASURED_BATCH = 8

# What the steps may take where time is not short; each does the part that fits.
OBSERVE_SECONDS = 30.0
CORRECT_SECONDS = 20.0

# Where the steps end, as parts of the whole, for whoever watches.
OBSERVED, COMPARED, CHOSEN = 0.2, 0.5, 0.9


@dataclass(frozen=True)
class Watch:
    """How long the steps may take, and who watches.

    Attributes:
        pace: part of the time that they may take where it is not short.
        tell: hears which part is done, 0..1.
    """

    pace: float = 1.0
    tell: Callable[[float], object] = float


@dataclass(frozen=True)
class Lowering:
    """How the file is to compute.

    Attributes:
        kernels: by the name of every node with a compressed weight.
        notes: what the report says of it.
    """

    kernels: Mapping[str, KernelChoice]
    notes: tuple[str, ...] = ()


def lower(
    module: OnnxModule,
    data: Dataset,
    sample: Mapping[str, np.ndarray],
    calibration: CalibrationOptions,
    export: ExportOptions,
    watch: Watch | None = None,
) -> Lowering:
    """Return the kernel of every node with a compressed weight, and give the module the formats of its activations.

    Biases move where that brings the outputs back to what they were with float activations.

    Args:
        module: on the CPU, in evaluation mode, its weights in their formats.
        data: that activations are observed on.
        sample: one batch of model inputs, which kernels are timed on.
        calibration: how activations are observed.
        export: what the file is for.
        watch: how long it may take, and who watches.
    """
    watch = watch or Watch()
    wish = Wish(export.kernel, export.threads, export.target, export.objective, calibration.activations)
    nodes = could_be_int8(module, wish)
    values = tuple(rounded_values(module.graph, dict.fromkeys(nodes, "int8")))
    if not values:
        choices = choose_kernels(module, sample, wish, pace=watch.pace)
        module.formats.update(activation_formats(module, kernel_names(choices), {}))
        return Lowering(choices)
    size = module.graph.batch_size or _batch_size(module, data, len(nodes), watch.pace * LOSS_SECONDS)
    samples = max(size, min(calibration.samples, len(data)) // size * size)
    observed = 0.0

    def hear(done: float) -> None:
        nonlocal observed
        observed = done
        watch.tell(OBSERVED * done)

    all_asked = samples > CalibrationOptions.samples  # who asks for more gets all of them
    sampling = Sampling(size, samples, math.inf if all_asked else watch.pace * OBSERVE_SECONDS, hear)
    if calibration.observer == "auto":
        candidates = collect_candidates(module, values, data, sampling)
    else:
        candidates = {calibration.observer: collect_grids(module, values, data, calibration.observer, sampling)}
    measured, others = _batches(module, data, size, watch.pace * LOSS_SECONDS / _runs(len(nodes)))
    meter = Meter(module, measured)
    losses = {name: meter.loss(nodes, grids) for name, grids in candidates.items()}
    observer = min(losses, key=lambda name: losses[name])
    grids = candidates[observer]
    loss = find_loss(meter, nodes, grids, watch.pace * LOSS_SECONDS)
    watch.tell(COMPARED)
    choices = choose_kernels(module, sample, wish, loss.reasons(), watch.pace)
    watch.tell(CHOSEN)
    kernels = kernel_names(choices)
    grids = avoid_ties(module.graph, kernels, grids)
    module.formats.update(activation_formats(module, kernels, grids))
    inside = [node for node, kernel in kernels.items() if kernel in STATIC]
    notes = [_describe(losses, observer)] if len(losses) > 1 and inside else []
    if inside and observed < 1:
        notes.append(f"There was time to observe {observed * samples:,.0f} of {samples:,} samples.")
    notes += [loss.note()] if loss.unmeasured else []
    if inside:
        notes += _correct(Correction(module, others), meter, inside, grids, watch.pace * CORRECT_SECONDS)
    return Lowering(choices, tuple(notes))


def _batch_size(module: OnnxModule, data: Dataset, nodes: int, seconds: float) -> int:
    """Return how many samples to run at a time: so few of a slow model that the loss of every node is found in time."""
    return max(1, min(MEASURED_BATCH, int(seconds / (_runs(nodes) * _seconds(module, data.batch(np.arange(1)))))))


def _seconds(module: OnnxModule, batch: Batch) -> float:
    started = time.monotonic()
    with torch.no_grad():
        module(batch.feeds)
    return max(time.monotonic() - started, 1e-6)


def _runs(nodes: int) -> int:
    """Return how many times a batch is run, about: for every node, and to compare observers and corrections."""
    return nodes + 16


def _batches(
    module: OnnxModule, data: Dataset, size: int, seconds: float
) -> tuple[list[dict[str, np.ndarray]], list[dict[str, np.ndarray]]]:
    """Return batches to measure losses on, and others to correct by: as many as run in that time, at least one."""
    rows = np.random.default_rng(0).permutation(len(data))
    rows = np.resize(rows, max(size, len(rows) // size * size))
    took = _seconds(module, data.batch(rows[:size]))
    most = max(1, min(MEASURED_SAMPLES // size, int(seconds / took)))
    parts = [dict(data.batch(rows[start : start + size]).feeds) for start in range(0, len(rows), size)[: 2 * most]]
    return parts[:most], parts[most:] or parts


def _correct(
    correction: Correction, meter: Meter, nodes: Sequence[str], grids: Mapping[str, Grid], seconds: float
) -> list[str]:
    """Correct biases, keep that where the outputs come nearer to what they were, and return what there is to say."""
    before = meter.loss(nodes, grids)
    kernels = dict.fromkeys(nodes, "int8")
    correction.correct(nodes, activation_formats(correction.module, kernels, grids), seconds)
    after = meter.loss(nodes, grids)
    if not correction.before:
        return []
    if after >= before:
        correction.undo()
        return []
    count = len(correction.before)
    return [
        f"The biases of {count} layer{'s' if count > 1 else ''} took up the mean error of 8-bit activations: that of "
        f"the outputs fell from {100 * before**0.5:.2g} % to {100 * after**0.5:.2g} %."
    ]


def _describe(losses: Mapping[str, float], chosen: str) -> str:
    figures = ", ".join(f"{name} {100 * loss**0.5:.2g} %" for name, loss in losses.items())
    return f"Ranges of 8-bit activations are those of the observer {chosen!r}; the outputs are off by: {figures}."
