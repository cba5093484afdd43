"""Puts weights on their grids, layer after layer, so that every layer answers as it did before.

A layer's problem is made of two models' inputs to it, that of before and the one with all earlier layers on their
grids already: what these lost, the layer makes up for as far as it can. Its bias, or the mean of the
BatchNormalization behind it, takes up what is left of the mean error (bias correction, Nagel et al. 2019), so the
inputs' covariance counts and not their second moment.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from passes.constraints import Levels, LevelTarget
from passes.constraints.levels import fit_grid
from passes.constraints.stacks import from_stack, to_stack
from passes.projection import project_onto
from passes.reconstruction.layers import Layer, find_layers
from passes.reconstruction.methods import METHODS, nearest
from passes.reconstruction.problem import Problem
from passes.reconstruction.statistics import Source, Statistics, collect
from passes.snapshot import Snapshot
from toolchain.formats import TensorFormat
from toolchain.module import OnnxModule

# Layers are taken in so many goes at most: the samples run once per go through both models.
WAVES = 16
WAVE_BYTES = 2**29  # of the statistics of one go, unless a layer alone takes more

DEFAULT = "admm"


@dataclass
class Reconstruction:
    """What became of the tensors.

    Attributes:
        errors: of every layer's outputs, as a part of their variance: by rounding to nearest, and as it is now.
        others: tensors that were rounded to nearest, and why.
        samples: that every layer was judged by at least; there may be no time for all.
    """

    samples: int
    errors: dict[str, tuple[float, float]] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)


@torch.no_grad()
def reconstruct(
    module: OnnxModule, targets: Mapping[str, LevelTarget], source: Source, method: str = DEFAULT
) -> Reconstruction:
    """Move the weights of ``module`` onto grids, and record their formats; masks stay.

    Args:
        module: its weights are changed in place, and biases and means of normalization along with them.
        targets: levels and scale axis by tensor name.
        source: calibration inputs, and for how long they may be looked at.
        method: a key of ``METHODS``.

    Raises:
        DataError: an input of the model is NaN or infinite.
    """
    module.eval()
    layers, others = find_layers(module.graph, targets)
    before = OnnxModule(module.graph).to(module.device).eval()
    Snapshot.of(module).restore(before)
    if others:
        project_onto(module, tuple(others), Levels({name: targets[name] for name in others}))
    result = Reconstruction(source.count, others=others)
    goes, until = list(waves(layers)), time.monotonic() + source.seconds
    for place, wave in enumerate(goes):
        share = max(0.0, until - time.monotonic()) / (len(goes) - place)
        statistics, seen = collect(before, module, wave, replace(source, seconds=share))
        result.samples = min(result.samples, seen)
        for layer in wave:
            if layer.weight in statistics:
                found = statistics.pop(layer.weight)
                result.errors[layer.weight] = _solve(module, layer, found, targets[layer.weight], method)
            else:
                result.others[layer.weight] = "its inputs are not all finite on the calibration data"
                project_onto(module, (layer.weight,), Levels({layer.weight: targets[layer.weight]}))
        source.tell((place + 1) / len(goes))
    return result


def waves(layers: Sequence[Layer]) -> Iterator[list[Layer]]:
    """Yield the layers in order, some at a time: few goes, and statistics that fit the memory set aside for them."""
    most = -(-len(layers) // WAVES)
    wave: list[Layer] = []
    used = 0
    for layer in layers:
        size = 2 * 4 * layer.layout.stack[0] * layer.columns**2
        if wave and (len(wave) == most or used + size > WAVE_BYTES):
            yield wave
            wave, used = [], 0
        wave.append(layer)
        used += size
    if wave:
        yield wave


def _solve(
    module: OnnxModule, layer: Layer, statistics: Statistics, target: LevelTarget, method: str
) -> tuple[float, float]:
    """Round one layer, and return the relative error of its outputs by rounding to nearest and as it is now."""
    weight, mask = module.tensor(layer.weight), None
    if layer.weight in module.formats:
        mask = module.formats[layer.weight].mask
    problem = _problem(layer, weight, statistics, target, mask)
    original = problem.rows(weight)
    rows, grid = METHODS[method](problem)
    module.formats[layer.weight] = TensorFormat(mask, grid)
    weight.copy_(module.formats[layer.weight].project(problem.tensor(rows)))
    _correct_mean(module, layer, original, problem.rows(weight), statistics)
    energy = float(((problem.target @ problem.covariance) * problem.target).sum())
    errors = [float(problem.error(found).sum()) for found in (nearest(problem)[0], problem.rows(weight))]
    return errors[0] / max(energy, 1e-30), errors[1] / max(energy, 1e-30)


def _problem(layer: Layer, weight: Tensor, statistics: Statistics, target: LevelTarget, mask: Tensor | None) -> Problem:
    goal, covariance = statistics.problem(to_stack(weight, layer.layout).flatten(2), layer.centered)
    return Problem(goal, covariance, layer.layout, mask, fit_grid(from_stack(goal, layer.layout), mask, target))


def _correct_mean(module: OnnxModule, layer: Layer, before: Tensor, after: Tensor, statistics: Statistics) -> None:
    """Let the bias, or the normalization's mean, take up how the mean output has moved; rows are ``[S, N, K]``."""
    if not layer.centered:
        return
    x, y = statistics.means()
    lost = statistics.r / statistics.count
    moved = ((after @ y[..., None] - before @ x[..., None])[..., 0] - lost).reshape(-1) * layer.factor
    if layer.bias:
        module.tensor(layer.bias).sub_(moved)
    else:
        module.tensor(layer.mean).add_(moved)
