"""Finds the nodes whose 8-bit activations hurt, by measuring what each does to the outputs."""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from toolchain.export.activations import activation_formats
from toolchain.formats import Grid
from toolchain.module import OnnxModule

# Squared error of an output, as a part of its mean square, that 8-bit activations may make: 20 dB. Measured on whole
# int8 models that lose no accuracy to speak of: 0.0001 (LeNet-5), 0.0008 (ResNet-20, ResNet-32).
LIMIT = 0.01

_SECONDS = 60.0  # for measuring nodes one by one; a node that was not reached counts as harmless

Batches = Sequence[Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Loss:
    """What 8-bit activations do to the outputs on calibration data, as a part of their mean square.

    Attributes:
        all: with all nodes in int8 that can be.
        kept: with those left in float that hurt.
        hurt: of each of those alone, by node name.
    """

    all: float
    kept: float
    hurt: Mapping[str, float]

    def reasons(self) -> dict[str, str]:
        """Return why a node is left in float, by its name."""
        total = f"of {100 * self.all**0.5:.0f} % with all nodes in int8, {100 * self.kept**0.5:.0f} % are left"
        return {
            name: f"its 8-bit activations alone move the outputs by {100 * loss**0.5:.0f} %; {total}"
            for name, loss in self.hurt.items()
        }


def find_loss(module: OnnxModule, nodes: Sequence[str], grids: Mapping[str, Grid], batches: Batches) -> Loss:
    """Return what 8-bit activations cost, and which nodes have to stay in float so that it is at most ``LIMIT``.

    Nodes are measured one at a time, all others in float; then as few as possible of the worst are left out together.
    Where that does not help, as outputs jump (an index, the order of detections), those are left out that are beyond
    the limit by themselves.

    Args:
        module: in evaluation mode, its weights in their formats; not changed.
        nodes: names of those that could run in int8.
        grids: of every value that they could round.
        batches: model inputs.
    """
    meter = _Meter(module, grids, batches)
    whole = meter.loss(nodes)
    if whole <= LIMIT:
        return Loss(whole, whole, {})
    alone, until = dict.fromkeys(nodes, 0.0), time.monotonic() + _SECONDS
    for name in nodes:
        if time.monotonic() > until:
            break
        alone[name] = meter.loss([name])
    worst = sorted(nodes, key=lambda name: -alone[name])
    count = _fewest(lambda left: meter.loss(worst[left:]), len(worst))
    if count == len(worst):
        count = sum(loss > LIMIT for loss in alone.values())
    return Loss(whole, meter.loss(worst[count:]), {name: alone[name] for name in worst[:count]})


def _fewest(loss: Callable[[int], float], most: int) -> int:
    """Return how many to leave out, at most ``most``, so that the loss is within the limit, if it falls as they go."""
    enough = 1
    while enough < most and loss(enough) > LIMIT:
        enough = min(2 * enough, most)
    low = enough // 2  # known not to be enough, or 0
    while enough - low > 1:
        middle = (low + enough) // 2
        low, enough = (low, middle) if loss(middle) <= LIMIT else (middle, enough)
    return enough


class _Meter:
    """Runs a module with the activations of some nodes in 8 bits, against itself with none."""

    def __init__(self, module: OnnxModule, grids: Mapping[str, Grid], batches: Batches) -> None:
        self.module = copy.copy(module)
        self.weights = {name: found for name, found in module.formats.items() if name in module.graph.initializers}
        self.grids, self.batches = grids, batches
        self.outputs = [value.name for value in module.graph.outputs if value.dtype.kind == "f"]
        self.expected = self._run([])

    def loss(self, nodes: Sequence[str]) -> float:
        """Return the squared error of the output that changes most, as a part of its mean square."""
        sums = {name: [0.0, 0.0] for name in self.outputs}
        for expected, got in zip(self.expected, self._run(nodes), strict=True):
            for name, total in sums.items():
                if got[name].shape != expected[name].shape:
                    return float("inf")
                total[0] += float((got[name].double() - expected[name].double()).square().sum())
                total[1] += float(expected[name].double().square().sum())
        return max((error / size if size else float(error > 0) for error, size in sums.values()), default=0.0)

    @torch.no_grad()
    def _run(self, nodes: Sequence[str]) -> list[dict[str, Tensor]]:
        kernels = dict.fromkeys(nodes, "int8")
        self.module.formats = self.weights | activation_formats(self.module.graph, kernels, self.grids)
        return [self.module.run(batch, self.outputs) for batch in self.batches]
