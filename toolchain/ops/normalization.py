"""Normalisation of activations."""

import torch
import torch.nn.functional as F  # noqa: N812 - the name the whole field uses
from torch import Tensor

from toolchain.graph import Node
from toolchain.ops.registry import op


@op("BatchNormalization", since=7, trainable=(1, 2))
def batch_normalization(
    x: Tensor,
    scale: Tensor,
    b: Tensor,
    mean: Tensor,
    var: Tensor,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    spatial: int = 1,
    training_mode: int = 0,
    training: bool = False,
) -> Tensor | tuple[Tensor, ...]:
    """Normalise per channel, or per element where ``spatial`` is 0 (before opset 9).

    While the module trains, by batch statistics, updating ``mean`` and ``var`` in place. Where the graph itself asks
    for ``training_mode``, always by batch statistics, and the updated ones are results.
    """
    if training_mode:
        axes = [0, *range(2, x.ndim)]
        moved = [
            running * momentum + batch * (1 - momentum)
            for running, batch in ((mean, x.mean(axes)), (var, x.var(axes, correction=0)))
        ]
        return F.batch_norm(x, None, None, scale, b, True, 0.0, epsilon), *moved
    values = x if spatial else x.flatten(1)
    if not spatial:
        mean, var, scale, b = (value.flatten() for value in (mean, var, scale, b))
    # ONNX weighs the running value by momentum, torch weighs the batch.
    return F.batch_norm(values, mean, var, scale, b, training, 1 - momentum, epsilon).reshape(x.shape)


@op("InstanceNormalization", since=6, trainable=(1, 2))
def instance_normalization(x: Tensor, scale: Tensor, b: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    """Normalise every channel of every sample over its spatial dimensions."""
    # Not F.instance_norm: with a batch of 1 its gradient is wrong if it comes in channels-last, as from ConvTranspose.
    return group_norm(x, x.shape[1], scale, b, epsilon)


def group_norm(x: Tensor, groups: int, scale: Tensor, b: Tensor, epsilon: float) -> Tensor:
    """Return groups of channels less their mean, over their standard deviation, by ``scale``, plus ``b``.

    Convolutions give channels-last values, of which torch subtracts squares on the CPU: those lose all digits where the
    mean is large. ``torch.group_norm`` also takes a single element per group, which ``F.group_norm`` refuses.
    """
    return torch.group_norm(x.contiguous(), groups, scale, b, epsilon)


def _refuse_other_stash(node: Node) -> str:
    return "" if node.attributes.get("stash_type", 1) == 1 else "stash_type normalises in another type than float"


def layer_norm(x: Tensor, scale: Tensor, bias: Tensor | None, axis: int, epsilon: float) -> Tensor:
    """Return ``x`` less its mean, over its standard deviation, by ``scale``, plus ``bias``; from ``axis`` on."""
    shape = x.shape[axis % x.ndim :]
    if scale.shape == shape and (bias is None or bias.shape == shape):
        return F.layer_norm(x, shape, scale, bias, epsilon)
    y = F.layer_norm(x, shape, None, None, epsilon) * scale
    return y if bias is None else y + bias


def rms_norm(x: Tensor, scale: Tensor, axis: int, epsilon: float) -> Tensor:
    """Return ``x`` over the root of its mean square from ``axis`` on, by ``scale``, in the type of ``scale``."""
    shape = x.shape[axis % x.ndim :]
    if scale.shape == shape and scale.dtype == x.dtype:
        return F.rms_norm(x, shape, scale, epsilon)
    return F.rms_norm(x, shape, None, epsilon).to(scale.dtype) * scale


# ONNX Runtime writes LayerNormalization into models of opsets that did not have it yet, too.
@op("LayerNormalization", trainable=(1, 2), refuses=_refuse_other_stash)
def layer_normalization(
    x: Tensor,
    scale: Tensor,
    b: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
    output_count: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """Normalise over all dimensions from ``axis`` on; mean and inverse standard deviation on request."""
    y = layer_norm(x, scale, b, axis, epsilon)
    if output_count == 1:
        return y
    axes = list(range(axis % x.ndim, x.ndim))
    variance, mean = torch.var_mean(x.to(torch.float32), axes, correction=0, keepdim=True)
    return (y, mean, torch.rsqrt(variance + epsilon))[:output_count]


@op("RMSNormalization", since=23, trainable=(1,), refuses=_refuse_other_stash)
def rms_normalization(
    x: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    """Divide by the root of the mean square over all dimensions from ``axis`` on."""
    return rms_norm(x, scale, axis, epsilon)


@op("SimplifiedLayerNormalization", trainable=(1,), refuses=_refuse_other_stash)
def simplified_layer_normalization(
    x: Tensor,
    scale: Tensor,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
    output_count: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """RMSNormalization as ONNX Runtime wrote it before ONNX had it; the inverse of the root on request."""
    y = rms_norm(x, scale, axis, epsilon)
    if output_count == 1:
        return y
    axes = list(range(axis % x.ndim, x.ndim))
    return y, torch.rsqrt(x.to(torch.float32).square().mean(axes, keepdim=True) + epsilon)


@op("GroupNormalization", since=18, trainable=(1, 2))
def group_normalization_per_group(
    x: Tensor, scale: Tensor, b: Tensor, *, epsilon: float = 1e-5, num_groups: int
) -> Tensor:
    """Normalise groups of channels, scale and bias per group (opset 18 to 20)."""
    repeats = x.shape[1] // num_groups
    return group_norm(x, num_groups, scale.repeat_interleave(repeats), b.repeat_interleave(repeats), epsilon)


@op("GroupNormalization", since=21, trainable=(1, 2))
def group_normalization(
    x: Tensor, scale: Tensor, b: Tensor, *, epsilon: float = 1e-5, num_groups: int, stash_type: int = 1
) -> Tensor:
    """Normalise groups of channels, scale and bias per channel."""
    return group_norm(x, num_groups, scale, b, epsilon)


@op("LRN")
def lrn(x: Tensor, *, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0, size: int) -> Tensor:
    """Divide by a power of the squares summed over ``size`` neighbouring channels."""
    before = (size - 1) // 2
    padded = F.pad(x.square(), [0, 0] * (x.ndim - 2) + [before, size - 1 - before])
    return x / (bias + alpha / size * padded.unfold(1, size, 1).sum(-1)).pow(beta)


@op("MeanVarianceNormalization", since=9)
def mean_variance_normalization(x: Tensor, *, axes: list[int] | None = None) -> Tensor:
    """Subtract the mean and divide by the standard deviation over ``axes``."""
    axes = [0, 2, 3] if axes is None else axes
    centred = x - x.mean(axes, keepdim=True)
    return centred / (centred.square().mean(axes, keepdim=True).sqrt() + 1e-9)


@op("LpNormalization")
def lp_normalization(x: Tensor, *, axis: int = -1, p: int = 2) -> Tensor:
    """Divide by the Lp norm along ``axis``; a zero vector stays zero."""
    norm: Tensor = torch.linalg.vector_norm(x, p, axis, keepdim=True)
    return x / torch.where(norm == 0, torch.ones_like(norm), norm)
