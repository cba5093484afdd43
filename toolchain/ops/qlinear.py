"""com.microsoft's operators on quantized tensors, as ONNX Runtime's quantization tool writes them.

Their results are those of ONNX Runtime on x86, operation for operation in float32: where a result lies halfway between
two levels, the last bit decides.
"""

from collections.abc import Callable
from functools import reduce
from math import prod

import torch
from torch import Tensor

from toolchain.ops.levels import centered, level_type, quantize
from toolchain.ops.registry import op
from toolchain.ops.windows import ceil_after, explicit_pads, pad, windows

MICROSOFT = "com.microsoft"


def _real(levels: Tensor, scale: Tensor, zero_point: Tensor | None) -> Tensor:
    """Return what the levels stand for."""
    return scale.reshape(()) * centered(levels, _single(zero_point))


def _single(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.reshape(())


def _levels(real: Tensor, scale: Tensor, zero_point: Tensor | None, kind: torch.dtype) -> Tensor:
    """Return the levels of real values on a grid."""
    return quantize(real / scale.reshape(()), _zero(zero_point, real), kind)


def _zero(zero_point: Tensor | None, like: Tensor) -> Tensor:
    """Return a zero point as a float, 0 where it is left out."""
    return like.new_zeros(()) if zero_point is None else zero_point.reshape(()).float()


def _by_table(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor | None,
    y_scale: Tensor,
    y_zero_point: Tensor | None,
) -> Tensor:
    """Return a function of real values on levels."""
    kind = level_type(x, x_zero_point if y_zero_point is None else y_zero_point)
    return _levels(function(_real(x, x_scale, x_zero_point)), y_scale, y_zero_point, kind)


@op("QLinearSigmoid", domain=MICROSOFT)
def qlinear_sigmoid(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor | None,
    y_scale: Tensor,
    y_zero_point: Tensor | None = None,
) -> Tensor:
    """Sigmoid of quantized values."""
    return _by_table(torch.sigmoid, x, x_scale, x_zero_point, y_scale, y_zero_point)


@op("QLinearLeakyRelu", domain=MICROSOFT)
def qlinear_leaky_relu(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor | None,
    y_scale: Tensor,
    y_zero_point: Tensor | None = None,
    *,
    alpha: float = 0.01,
) -> Tensor:
    """Quantized values, negative ones times ``alpha``."""
    return _by_table(
        lambda real: torch.where(real >= 0, real, real * alpha), x, x_scale, x_zero_point, y_scale, y_zero_point
    )


@op("QLinearConcat", domain=MICROSOFT)
def qlinear_concat(y_scale: Tensor, y_zero_point: Tensor, *inputs: Tensor, axis: int) -> Tensor:
    """Join quantized tensors, each given as levels, scale and zero point, on one grid."""
    parts = [
        _by_table(lambda real: real, levels, scale, zero_point, y_scale, y_zero_point)
        for levels, scale, zero_point in zip(inputs[::3], inputs[1::3], inputs[2::3], strict=True)
    ]
    return torch.cat(parts, axis)


@op("QLinearWhere", domain=MICROSOFT)
def qlinear_where(
    condition: Tensor,
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    y: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
    z_scale: Tensor,
    z_zero_point: Tensor,
) -> Tensor:
    """X where the condition holds, Y elsewhere, on one grid."""
    chosen = _by_table(lambda real: real, x, x_scale, x_zero_point, z_scale, z_zero_point)
    other = _by_table(lambda real: real, y, y_scale, y_zero_point, z_scale, z_zero_point)
    return torch.where(condition, chosen, other)


@op("QLinearAdd", domain=MICROSOFT)
def qlinear_add(
    a: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor | None,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor | None,
    c_scale: Tensor,
    c_zero_point: Tensor | None = None,
) -> Tensor:
    """Sum of quantized tensors, with numpy broadcasting."""
    kind = level_type(a, next((z for z in (c_zero_point, a_zero_point, b_zero_point) if z is not None), None))
    a_ratio, b_ratio = a_scale.reshape(()) / c_scale.reshape(()), b_scale.reshape(()) / c_scale.reshape(())
    zeros = _fused(_zero(a_zero_point, a_ratio), a_ratio, b_ratio * _zero(b_zero_point, b_ratio))
    total = _fused(a, a_ratio, _fused(b, b_ratio, _zero(c_zero_point, zeros) - zeros))
    return quantize(total, None, kind)


def _fused(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Return ``a * b + c`` rounded to float32 once, as one instruction does: in float64 it is exact."""
    return (a.double() * b.double() + c.double()).float()


@op("QLinearMul", domain=MICROSOFT)
def qlinear_mul(
    a: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor | None,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor | None,
    c_scale: Tensor,
    c_zero_point: Tensor | None = None,
) -> Tensor:
    """Product of quantized tensors, with numpy broadcasting."""
    kind = level_type(a, next((z for z in (c_zero_point, a_zero_point, b_zero_point) if z is not None), None))
    product = centered(a, _single(a_zero_point)) * centered(b, _single(b_zero_point))
    real = product * (a_scale.reshape(()) * b_scale.reshape(()) / c_scale.reshape(()))
    return quantize(real + _zero(c_zero_point, real), None, kind)


@op("QLinearSoftmax", domain=MICROSOFT)
def qlinear_softmax(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor | None,
    y_scale: Tensor,
    y_zero_point: Tensor,
    *,
    axis: int = -1,
    opset: int,
) -> Tensor:
    """Softmax of quantized values along ``axis``, before opset 13 over all dimensions from ``axis`` on.

    ONNX Runtime multiplies by the whole part of 1 / y_scale, and so does this.
    """
    levels = centered(x, None)
    shape = levels.shape
    flat = levels if opset >= 13 else levels.flatten(axis % levels.ndim)
    chances = torch.softmax(flat.double() * x_scale.reshape(()), axis if opset >= 13 else -1).reshape(shape)
    return quantize(
        chances * torch.floor(1 / y_scale.reshape(())), _zero(y_zero_point, x_scale), level_type(x, y_zero_point)
    )


@op("QLinearGlobalAveragePool", domain=MICROSOFT)
def qlinear_global_average_pool(
    x: Tensor, x_scale: Tensor, x_zero_point: Tensor, y_scale: Tensor, y_zero_point: Tensor, *, channels_last: int = 0
) -> Tensor:
    """Mean over all spatial dimensions, which are kept with size 1."""
    spatial = list(range(1, x.ndim - 1) if channels_last else range(2, x.ndim))
    levels = centered(x, _single(x_zero_point))
    total = levels.double().sum(spatial, keepdim=True).float()
    count = prod(x.shape[axis] for axis in spatial)
    scale = x_scale.reshape(()) / (y_scale.reshape(()) * count)
    return quantize(total * scale, _zero(y_zero_point, x_scale), level_type(x, y_zero_point))


@op("QLinearAveragePool", domain=MICROSOFT)
def qlinear_average_pool(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor | None,
    y_scale: Tensor,
    y_zero_point: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    channels_last: int = 0,
    count_include_pad: int = 0,
    kernel_shape: list[int],
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Mean under each window, with what lies outside the input counted as zeros or not at all."""
    kind = level_type(x, x_zero_point if y_zero_point is None else y_zero_point)
    real = _real(x.movedim(-1, 1) if channels_last else x, x_scale, x_zero_point)
    rank, size = real.ndim - 2, list(real.shape[2:])
    strides, single = strides or [1] * rank, [1] * rank
    before, after = explicit_pads(auto_pad, pads, size, kernel_shape, strides, single)
    counted = torch.ones_like(real[:1, :1])
    if ceil_mode:
        after = ceil_after(size, kernel_shape, strides, single, before, after)
    view = windows(pad(real, before, after), kernel_shape, strides, single).flatten(-rank)
    if count_include_pad:
        count: Tensor | int = view.shape[-1]
    else:
        count = windows(pad(counted, before, after), kernel_shape, strides, single).flatten(-rank).sum(-1)
    # One addition after the other: halves are common, and the order of the sum decides them.
    mean = reduce(torch.add, view.unbind(-1)) / count
    y = quantize(mean / y_scale.reshape(()) + _zero(y_zero_point, mean), None, kind)
    return y.movedim(1, -1) if channels_last else y
