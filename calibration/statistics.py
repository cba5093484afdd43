"""Fits inputs to the statistics that BatchNormalization nodes remember of the training data.

Sources: Cai et al., ZeroQ: A Novel Zero Shot Quantization Framework, CVPR 2020, eq. 2; Yin et al., Dreaming to Distill
(DeepInversion), CVPR 2020, section 3.2. Here every channel's deviation is measured in its own standard deviations.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from toolchain.module import OnnxModule

# A nearly constant channel counts by this share of its layer's mean variance, or it would outweigh all others.
_VARIANCE_FLOOR = 0.01

# Adam's rates: in standard deviations of the inputs (0.1 to 0.4 reach about the same in a dozen steps), and in
# logarithms of gain and offset.
_RATE = 0.2
_SCALE_RATE = 0.3


@dataclass(frozen=True)
class Statistics:
    """What one BatchNormalization node remembers: the value it reads, and mean and variance ``[C]``."""

    value: str
    mean: Tensor
    variance: Tensor


def stored_statistics(module: OnnxModule) -> tuple[Statistics, ...]:
    """Return the statistics of every BatchNormalization node that stores float32 ones."""
    found = []
    for node in module.graph.nodes:
        if node.op == "BatchNormalization" and all(name in module.graph.initializers for name in node.inputs[3:5]):
            mean, variance = (module.tensor(name).detach() for name in node.inputs[3:5])
            if mean.dtype == torch.float32:
                found.append(Statistics(node.inputs[0], mean, variance))
    return tuple(found)


def mismatch(module: OnnxModule, stored: tuple[Statistics, ...], inputs: Mapping[str, Tensor]) -> Tensor:
    """Return how far a batch is from the stored statistics: a scalar, 0 for a perfect match.

    It is the mean over nodes and channels of ``((mean' - mean)^2 + (std' - std)^2) / std^2``, where the primed ones are
    the batch's. Differentiable in ``inputs``.
    """
    values = module.run(inputs, list(dict.fromkeys(item.value for item in stored)))
    total = torch.zeros((), device=module.device)
    for item in stored:
        value = values[item.value]
        dims = [axis for axis in range(value.ndim) if axis != 1]
        variance, mean = torch.var_mean(value, dims, correction=0)
        floor = item.variance.clamp(min=_VARIANCE_FLOOR * item.variance.mean().item() + 1e-12)
        # The small constant keeps the gradient of the root finite where a channel is constant.
        spread = (variance + 1e-8).sqrt() - item.variance.sqrt()
        total = total + (((mean - item.mean).square() + spread.square()) / floor).mean()
    return total / max(len(stored), 1)


def match_scale(
    module: OnnxModule,
    stored: tuple[Statistics, ...],
    inputs: Mapping[str, Tensor],
    channels: Mapping[str, tuple[int, ...]],
    steps: int,
    until: float = math.inf,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return, by input name, the gain and the offset with which ``x * gain + offset`` best match the statistics.

    They take noise of unit variance to the range that the model was trained on, be it 0 to 1 or 0 to 255.

    Args:
        module: in evaluation mode.
        stored: what to match.
        inputs: one batch.
        channels: the shape of gain and offset by name of a float32 input; it broadcasts over the input.
        steps: of Adam.
        until: ``time.monotonic()`` at which no further step is begun.
    """
    logs = {name: torch.zeros(shape, device=module.device, requires_grad=True) for name, shape in channels.items()}
    # As exp does for the gain, sinh lets an offset of either sign grow by a factor at each step.
    bends = {name: torch.zeros_like(log, requires_grad=True) for name, log in logs.items()}
    moving = [*logs.values(), *bends.values()]

    def deviation() -> Tensor:
        scaled = {name: inputs[name] * log.exp() + bends[name].sinh() for name, log in logs.items()}
        return mismatch(module, stored, {**inputs, **scaled})

    _minimize(deviation, [{"params": [tensor], "lr": _SCALE_RATE} for tensor in moving], steps, until)
    return {name: (log.detach().exp(), bends[name].detach().sinh()) for name, log in logs.items()}


def match_statistics(
    module: OnnxModule,
    stored: tuple[Statistics, ...],
    inputs: dict[str, Tensor],
    fitted: tuple[str, ...],
    steps: int,
    until: float = math.inf,
) -> None:
    """Replace the float32 inputs ``fitted`` of one batch by ones that match the stored statistics.

    No step is begun after ``time.monotonic()`` has reached ``until``.
    """
    inputs |= {name: inputs[name].clone().requires_grad_(True) for name in fitted}
    groups = [{"params": [inputs[name]], "lr": _RATE * inputs[name].std().item()} for name in fitted]
    _minimize(lambda: mismatch(module, stored, inputs), groups, steps, until)
    inputs |= {name: inputs[name].detach() for name in fitted}


def _minimize(loss: Callable[[], Tensor], groups: list[dict[str, Any]], steps: int, until: float) -> None:
    """Run Adam on the parameter groups, its rate falling along a cosine so that few steps suffice."""
    moving = [tensor for group in groups for tensor in group["params"]]
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * step / steps)) / 2)
    with torch.enable_grad():
        for _ in range(steps):
            if time.monotonic() > until:
                break
            gradients = torch.autograd.grad(loss(), moving, materialize_grads=True)  # not those of the weights
            for tensor, gradient in zip(moving, gradients, strict=True):
                tensor.grad = gradient
            optimizer.step()
            schedule.step()
