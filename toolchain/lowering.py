"""Decides how the file computes: calibrates activations, spares nodes that they hurt, chooses kernels by time."""

from collections.abc import Mapping

import numpy as np

from calibration.collect import collect_grids
from calibration.data import Dataset
from toolchain.export import KernelChoice, Wish, activation_formats, choose_kernels, could_be_int8, find_loss
from toolchain.export.runs import rounded_values
from toolchain.module import OnnxModule
from toolchain.plan import CalibrationOptions, ExportOptions

LOSS_SAMPLES = 64  # that the loss of every node is measured on
LOSS_BATCH = 16


def lower(
    module: OnnxModule,
    data: Dataset,
    sample: Mapping[str, np.ndarray],
    calibration: CalibrationOptions,
    export: ExportOptions,
) -> dict[str, KernelChoice]:
    """Return the kernel of every node with a compressed weight, and give the module the formats of its activations.

    Args:
        module: on the CPU, in evaluation mode, its weights in their formats.
        data: that activations are observed on.
        sample: one batch of model inputs, which kernels are timed on.
        calibration: how activations are observed.
        export: what the file is for.
    """
    wish = Wish(export.kernel, export.threads, export.target, export.objective, calibration.activations)
    nodes = could_be_int8(module, wish)
    values = rounded_values(module.graph, dict.fromkeys(nodes, "int8"))
    if not values:
        return choose_kernels(module, sample, wish)
    size = module.graph.batch_size or LOSS_BATCH
    samples = max(size, min(calibration.samples, len(data)) // size * size)
    grids = collect_grids(module, tuple(values), data, calibration.observer, size, samples)
    few = np.linspace(0, len(data) - 1, max(size, min(LOSS_SAMPLES, len(data)) // size * size)).round().astype(np.int64)
    loss = find_loss(module, nodes, grids, [dict(data.batch(rows).feeds) for rows in few.reshape(-1, size)])
    choices = choose_kernels(module, sample, wish, loss.reasons())
    kernels = {node: choice.kernel for node, choice in choices.items()}
    module.formats.update(activation_formats(module.graph, kernels, grids))
    return choices
