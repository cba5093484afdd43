"""The gradient of the loss over a batch, plain or sharpness-aware."""

from dataclasses import dataclass

import torch
from torch import Tensor

from calibration.data import Batch
from passes.trainer import Trainer


@dataclass(frozen=True)
class Part:
    """What the model takes at a time of a batch.

    Attributes:
        inputs: by name.
        targets: the original's answers to them, by name.
        labels: of the samples, if they have any.
        share: of the batch, and so of its loss.
    """

    inputs: dict[str, Tensor]
    targets: dict[str, Tensor]
    labels: Tensor | None
    share: float


def add_gradient(trainer: Trainer, batch: Batch, sharpness: float) -> float:
    """Give the parameters of the module, which have none yet, their gradients; return the loss.

    Args:
        trainer: the models and the loss.
        batch: training samples.
        sharpness: radius of the sharpness-aware gradient; 0 is the plain gradient. The loss is the plain one's.
    """
    parts = parts_of(trainer, batch)
    loss = _backward(trainer, parts)
    if sharpness > 0:
        _sharpen(trainer, parts, sharpness)
    return loss


def parts_of(trainer: Trainer, batch: Batch) -> list[Part]:
    """Return the batch in the portions that the model takes."""
    portion = trainer.portion or len(batch)
    parts = []
    for part in batch.portions(portion):
        inputs, labels = trainer.tensors(part)
        parts.append(Part(inputs, trainer.targets(part, inputs), labels, portion / len(batch)))
    return parts


def _backward(trainer: Trainer, parts: list[Part]) -> float:
    """Add the gradient of the batch to the module's, and return the loss."""
    total = 0.0
    for part in parts:  # gradients add up where the model takes few samples at a time
        loss = trainer.objective.loss(trainer.outputs(trainer.module, part.inputs), part.targets, part.labels)
        loss = loss * part.share
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return total


def _sharpen(trainer: Trainer, parts: list[Part], radius: float) -> None:
    """Replace the gradient by that at the point ``radius`` uphill (Foret et al. 2021, eq. 2 and 3)."""
    gradients = {weight: weight.grad for weight in trainer.module.parameters() if weight.grad is not None}
    length = torch.nn.utils.get_total_norm(gradients.values()).clamp_min(1e-12)
    here = [weight.detach().clone() for weight in gradients]
    with torch.no_grad():
        for weight, gradient in gradients.items():
            weight.add_(gradient * (radius / length))
    trainer.module.zero_grad()
    _backward(trainer, parts)
    with torch.no_grad():
        for weight, value in zip(gradients, here, strict=True):
            weight.copy_(value)
