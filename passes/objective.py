"""The training objective: agree with the original on every float output, and with labels where there are any."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name the whole field uses
from torch import Tensor

from toolchain.graph import Graph, Node

TEMPERATURE = (
    3.0  # softens both distributions, so that the small probabilities teach too (Hinton et al. 2015, section 2)
)
CONSTANT = 1e-10  # of an output's mean square, below which its variance is that of rounding


@dataclass(frozen=True)
class Distribution:
    """How an output divides into probability distributions.

    Attributes:
        axis: the dimension that a distribution runs over; negative counts from the end.
        flattened: whether it runs over all dimensions from ``axis`` on together, as Softmax did before opset 13.
    """

    axis: int
    flattened: bool = False

    def rows(self, values: Tensor) -> Tensor:
        """Return ``values`` as ``[distributions, size of one]``."""
        if self.flattened:
            return values.reshape(math.prod(values.shape[: self.axis]), -1)
        moved = values.movedim(self.axis, -1)
        return moved.reshape(-1, moved.shape[-1])


@dataclass(frozen=True)
class Objective:
    """Distillation from the original, with labels where the data have them.

    Attributes:
        outputs: names of the float outputs that the loss covers.
        classes: the output ``[N, C]`` or ``[N, C, 1, ...]`` that class labels speak of; None where there are no labels.
        normalised: outputs that a Softmax made, so probabilities and not logits, and along which dimension.
        distillation: weight of the teacher against the labels on ``classes``.
        spreads: what squared errors are divided by, by output name, so that outputs of any scale weigh the same; 1
            where there is none.
    """

    outputs: tuple[str, ...]
    classes: str | None = None
    normalised: Mapping[str, Distribution] = field(default_factory=dict)
    distillation: float = 0.7
    spreads: Mapping[str, float] = field(default_factory=dict)

    def loss(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], labels: Tensor | None) -> Tensor:
        """Return the scalar loss of a batch; labels are ``[N]``."""
        total = next(iter(student.values())).new_zeros(())
        for name in self.outputs:
            total = total + self._output_loss(name, student[name], teacher[name], labels)
        return total

    def _output_loss(self, name: str, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        distribution = self.normalised.get(name)
        if distribution is not None:
            student, teacher = student.clamp_min(1e-9).log(), teacher.clamp_min(1e-9).log()
        if name == self.classes and labels is not None:
            student, teacher = student.flatten(1), teacher.flatten(1)
            hard = F.cross_entropy(student, labels)
            return (1 - self.distillation) * hard + self.distillation * divergence(student, teacher)
        if distribution is not None:
            return divergence(distribution.rows(student), distribution.rows(teacher))
        return (student - teacher).square().mean() / self.spreads.get(name, 1.0)


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of softened class distributions, scaled by the squared temperature.

    Args:
        student: logits ``[rows, classes]``.
        teacher: logits of the same shape.
    """
    log_p = F.log_softmax(student / TEMPERATURE, -1)
    q = F.softmax(teacher / TEMPERATURE, -1)
    return TEMPERATURE**2 * F.kl_div(log_p, q, reduction="batchmean")


@torch.no_grad()
def find_spreads(answers: Iterable[Mapping[str, Tensor]], names: Collection[str]) -> dict[str, float]:
    """Return the variance of every named output over all ``answers``, each of some samples.

    An output that is the same everywhere has its mean square instead, and 1 where that is 0 too. A batch's own variance
    would not do: that of a single number is 0.
    """
    sums = {name: np.zeros(3) for name in names}
    for answer in answers:
        for name, total in sums.items():
            values = answer[name].double()
            total += [values.numel(), float(values.sum()), float(values.square().sum())]
    return {name: _spread(*total) for name, total in sums.items()}


def _spread(count: float, first: float, second: float) -> float:
    square = second / max(count, 1)
    variance = square - (first / max(count, 1)) ** 2
    return float(variance if variance > CONSTANT * square else square) or 1.0


def objective_for(graph: Graph, classes: str | None) -> Objective:
    """Return the objective that fits the graph's outputs; ``classes`` is the one that labels speak of, if there are."""
    outputs = tuple(value.name for value in graph.outputs if value.dtype.kind == "f")
    softmaxes = {node.outputs[0]: _distribution(node) for node in graph.nodes if node.op == "Softmax"}
    return Objective(outputs, classes, {name: softmaxes[name] for name in outputs if name in softmaxes})


def _distribution(softmax: Node) -> Distribution:
    axis = softmax.attributes["axis"]
    return Distribution(axis if isinstance(axis, int) else -1, flattened=softmax.since < 13)


@torch.no_grad()
def correct(outputs: Tensor, labels: Tensor) -> int:
    """Return how many rows of the class scores ``[N, C]`` or ``[N, C, 1, ...]`` are largest at the label."""
    return int((outputs.flatten(1).argmax(1) == labels).sum())
