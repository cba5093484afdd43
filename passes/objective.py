"""The training objective: agree with the original on every float output, and with labels where there are any."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name the whole field uses
from torch import Tensor

from toolchain.graph import Graph

TEMPERATURE = (
    3.0  # softens both distributions, so that the small probabilities teach too (Hinton et al. 2015, section 2)
)


@dataclass(frozen=True)
class Objective:
    """Distillation from the original, with labels where the data have them.

    Attributes:
        outputs: names of the float outputs that the loss covers.
        classes: the output ``[N, C]`` that class labels speak of; None where there are no labels.
        normalised: outputs that a Softmax made, so probabilities and not logits.
        distillation: weight of the teacher against the labels on ``classes``.
    """

    outputs: tuple[str, ...]
    classes: str | None = None
    normalised: frozenset[str] = frozenset()
    distillation: float = 0.7

    def loss(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], labels: Tensor | None) -> Tensor:
        """Return the scalar loss of a batch."""
        total = next(iter(student.values())).new_zeros(())
        for name in self.outputs:
            total = total + self._output_loss(name, student[name], teacher[name], labels)
        return total

    def _output_loss(self, name: str, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        if name in self.normalised:
            student, teacher = student.clamp_min(1e-9).log(), teacher.clamp_min(1e-9).log()
        if name != self.classes or labels is None:
            if name in self.normalised:
                return divergence(student, teacher)
            # In units of the teacher's own spread, so that outputs of any scale weigh the same.
            return (student - teacher).square().mean() / teacher.var(correction=0).clamp_min(1e-8)
        hard = F.cross_entropy(student, labels)
        return (1 - self.distillation) * hard + self.distillation * divergence(student, teacher)


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of softened class distributions, scaled by the squared temperature."""
    log_p = F.log_softmax(student.flatten(0, -2) / TEMPERATURE, -1)
    q = F.softmax(teacher.flatten(0, -2) / TEMPERATURE, -1)
    return TEMPERATURE**2 * F.kl_div(log_p, q, reduction="batchmean")


def class_output(graph: Graph) -> str | None:
    """Return the first float output of rank 2 that can hold class scores, or None."""
    for value in graph.outputs:
        if value.dtype.kind == "f" and (value.shape is None or len(value.shape) == 2):
            return value.name
    return None


def objective_for(graph: Graph, labelled: bool) -> Objective:
    """Return the objective that fits the graph's outputs."""
    outputs = tuple(value.name for value in graph.outputs if value.dtype.kind == "f")
    softmaxes = {name for node in graph.nodes if node.op == "Softmax" for name in node.outputs}
    return Objective(outputs, class_output(graph) if labelled else None, frozenset(softmaxes & set(outputs)))


@torch.no_grad()
def correct(outputs: Tensor, labels: Tensor) -> int:
    """Return how many rows have their largest score at the label."""
    return int((outputs.argmax(1) == labels).sum())
