"""Finds the nodes whose 8-bit activations hurt, by measuring what each does to the outputs."""

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from toolchain.export.activations import activation_formats
from toolchain.formats import Grid, TensorFormat
from toolchain.module import OnnxModule

# Squared error of an output, as a part of its mean square, that 8-bit activations may make: 20 dB. Measured on whole
# int8 models that lose no accuracy to speak of: 0.0001 (LeNet-5), 0.0008 (ResNet-20, ResNet-32).
LIMIT = 0.01

LOSS_SECONDS = 60.0  # for measuring nodes one by one; those with the coarsest steps come first

Batches = Sequence[Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Loss:
    """What 8-bit activations do to the outputs on calibration data, as a part of their mean square.

    Attributes:
        all: with all nodes in int8 that can be.
        kept: with those left in float that hurt.
        hurt: of each of those alone, by node name; None where there was no time to measure that.
        nodes: how many could run in int8.
        unmeasured: how many of them there was no time to measure alone.
    """

    all: float
    kept: float
    hurt: Mapping[str, float | None]
    nodes: int
    unmeasured: int = 0

    def reasons(self) -> dict[str, str]:
        """Return why a node is left in float, by its name."""
        total = f"of {100 * self.all**0.5:.0f} % with all nodes in int8, {100 * self.kept**0.5:.0f} % are left"
        return {
            name: f"there was no time to measure its 8-bit activations alone; {total}"
            if loss is None
            else f"its 8-bit activations alone move the outputs by {100 * loss**0.5:.0f} %; {total}"
            for name, loss in self.hurt.items()
        }

    def note(self) -> str:
        """Return what the report says of the nodes that were not measured."""
        spared = sum(loss is None for loss in self.hurt.values())
        return (
            f"There was no time to measure what the 8-bit activations of {self.unmeasured} of {self.nodes} nodes do "
            f"alone; {spared} of them stay in float, so that the outputs move by less."
        )


def find_loss(meter: "Meter", nodes: Sequence[str], grids: Mapping[str, Grid], seconds: float = LOSS_SECONDS) -> Loss:
    """Return what 8-bit activations cost, and which nodes have to stay in float so that it is at most ``LIMIT``.

    Nodes are measured one at a time, all others in float, those with the coarsest steps first; then as few as possible
    of the worst are left out together. A node that there was no time for counts as if it did its even share of what is
    allowed. Where leaving out does not help, as outputs jump (an index, the order of detections), those are left out
    that are beyond the limit by themselves, or may be.

    Args:
        meter: of the model.
        nodes: names of those that could run in int8.
        grids: of every value that they could round.
        seconds: of measuring nodes one at a time.
    """
    whole = meter.loss(nodes, grids)
    if whole <= LIMIT:
        return Loss(whole, whole, {}, len(nodes))
    alone, until = dict[str, float](), time.monotonic() + seconds
    for name in _coarsest_first(meter.module, nodes, grids):
        if time.monotonic() > until:
            break
        alone[name] = meter.loss([name], grids)
    worst = sorted(nodes, key=lambda name: -alone.get(name, LIMIT / len(nodes)))
    count = _fewest(lambda left: meter.loss(worst[left:], grids), len(worst))
    if count == len(worst):
        worst = [name for name in worst if alone.get(name, math.inf) > LIMIT]
    hurt = {name: alone.get(name) for name in worst[:count]}
    kept = meter.loss([name for name in nodes if name not in hurt], grids)
    return Loss(whole, kept, hurt, len(nodes), len(nodes) - len(alone))


def _coarsest_first(module: OnnxModule, nodes: Sequence[str], grids: Mapping[str, Grid]) -> list[str]:
    """Return nodes by the steps of what they read and make: far outliers, which hurt most, make steps coarse."""
    values = {node.name: (*node.inputs, *node.outputs) for node in module.graph.walk()}
    steps = {
        name: max((float(grids[v].scale.max()) for v in values[name] if v in grids), default=0.0) for name in nodes
    }
    return sorted(nodes, key=lambda name: -steps[name])


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


class Meter:
    """Runs a module with the activations of some nodes in 8 bits, against what it answered with none at first.

    Args:
        module: in evaluation mode, its weights in their formats; not changed.
        batches: model inputs.
    """

    def __init__(self, module: OnnxModule, batches: Batches) -> None:
        self.module = copy.copy(module)
        self.weights = {name: found for name, found in module.formats.items() if name in module.graph.initializers}
        self.batches = batches
        floats = [value.name for value in module.graph.outputs if value.dtype.kind == "f"]
        self.has_floats = bool(floats)
        self.outputs = floats or [value.name for value in module.graph.outputs]
        self.expected = self._run({})

    def loss(self, nodes: Sequence[str], grids: Mapping[str, Grid]) -> float:
        """Return the squared error of the output that changes most, as a part of its mean square.

        Of a model without float outputs, the square of the part of the integers that change. Infinite where an output
        changes its shape or is no number any more.
        """
        sums = {name: [0.0, 0.0] for name in self.outputs}
        got = self._run(activation_formats(self.module, dict.fromkeys(nodes, "int8"), grids))
        for expected, found in zip(self.expected, got, strict=True):
            for name, total in sums.items():
                if found[name].shape != expected[name].shape:
                    return math.inf
                error, size = _error(expected[name], found[name])
                total[0] += error
                total[1] += size
        parts = [error / size if size else float(error > 0) for error, size in sums.values()]
        losses = [part if self.has_floats else part**2 for part in parts]
        return max((math.inf if math.isnan(loss) else loss for loss in losses), default=0.0)

    @torch.no_grad()
    def _run(self, activations: Mapping[str, TensorFormat]) -> list[dict[str, Tensor]]:
        self.module.formats = self.weights | dict(activations)
        return [self.module.run(batch, self.outputs) for batch in self.batches]


def _error(expected: Tensor, found: Tensor) -> tuple[float, float]:
    """Return the squared error and the square of an output; of integers how many differ, and how many there are."""
    if not expected.is_floating_point():
        return float((found != expected).sum()), float(expected.numel())
    finite = torch.isfinite(expected)
    error = torch.where(finite, found - expected, 0.0).double()
    return float(error.square().sum()), float(torch.where(finite, expected, 0.0).double().square().sum())
