"""Products of integers: convolutions and matrix products of quantized tensors, exact as in 32-bit integers.

Torch has fast products of floats only, so they are computed in floats wide enough that no sum rounds.
"""

import torch
from torch import Tensor

from toolchain.ops.casting import tracked
from toolchain.ops.convolution import conv
from toolchain.ops.levels import centered, level_type, quantize
from toolchain.ops.registry import op

# Every integer up to this is a float32; a level minus its zero point is at most REACH.
EXACT_FLOAT32 = 2**24
REACH = 255


def _exact_type(factor: Tensor, taps: int, summed: list[int]) -> torch.dtype:
    """Return the float type in which sums of products of centered levels over ``taps`` elements are exact.

    On the CPU, where it costs next to nothing, the values of one ``factor`` decide, summed over the axes ``summed``.
    """
    if taps * REACH**2 <= EXACT_FLOAT32:
        return torch.float32
    if factor.device.type == "cpu" and factor.numel():
        reach = factor.detach().abs().sum(summed).amax() * REACH
        return torch.float32 if reach <= EXACT_FLOAT32 else torch.float64
    return torch.float64


def _as_integers(total: Tensor) -> Tensor:
    """Return exact sums as int32, with the overflow of 32 bits, or as they are while a gradient is asked for."""
    return total if tracked(total) else total.round().to(torch.int64).to(torch.int32)


def _convolve(
    x: Tensor,
    w: Tensor,
    auto_pad: str,
    dilations: list[int] | None,
    group: int,
    pads: list[int] | None,
    strides: list[int] | None,
) -> Tensor:
    """Return the convolution of centered levels, exact."""
    kind = torch.float64  # cuDNN may choose an algorithm that rounds in between
    if x.device.type == "cpu":
        kind = _exact_type(w, w.shape[1:].numel(), list(range(1, w.ndim)))
    return conv(x.to(kind), w.to(kind), auto_pad=auto_pad, dilations=dilations, group=group, pads=pads, strides=strides)


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """Return the matrix product of centered levels, exact, in the float type that it took."""
    summed = -2 if b.ndim > 1 else 0
    kind = _exact_type(b, b.shape[summed], [summed])
    return torch.matmul(a.to(kind), b.to(kind))


def rows(values: Tensor) -> Tensor:
    """Return scales or zero points of the first factor so that they broadcast over it: a vector holds one a row."""
    return values[:, None] if values.ndim == 1 and len(values) > 1 else values


def minus(levels: Tensor, zero_point: Tensor | None) -> Tensor:
    """Return levels minus a zero point that broadcasts over them, as floats."""
    return levels.float() if zero_point is None else levels.float() - zero_point.float()


def requantize(total: Tensor, scale: Tensor, zero_point: Tensor | None, kind: torch.dtype) -> Tensor:
    """Return the levels of ``total * scale``, multiplied in float32 as ONNX Runtime does.

    Args:
        total: sums of products, integers.
        scale: scales of both factors over that of the result; broadcasts over ``total``.
        zero_point: of the result, or None for 0.
        kind: the type of the levels.
    """
    return quantize(total.float() * scale.float(), None if zero_point is None else zero_point.float(), kind)


@op("ConvInteger", since=10)
def conv_integer(
    x: Tensor,
    w: Tensor,
    x_zero_point: Tensor | None = None,
    w_zero_point: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Convolution of levels minus their zero points, as int32; the border is padded with the zero point."""
    x, w = centered(x, x_zero_point), centered(w, w_zero_point, axis=0)
    return _as_integers(_convolve(x, w, auto_pad, dilations, group, pads, strides))


@op("MatMulInteger", since=10)
def mat_mul_integer(
    a: Tensor, b: Tensor, a_zero_point: Tensor | None = None, b_zero_point: Tensor | None = None
) -> Tensor:
    """Matrix product of levels minus their zero points, as int32; zero points may differ by row of a, column of b."""
    a_zero = None if a_zero_point is None else rows(a_zero_point)
    return _as_integers(multiply(minus(a, a_zero), minus(b, b_zero_point)))


@op("QLinearConv", since=10)
def qlinear_conv(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    w: Tensor,
    w_scale: Tensor,
    w_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Convolution of quantized tensors onto the grid of the result; ``bias`` is int32 on the product's grid."""
    w = centered(w, w_zero_point, axis=0)
    total = _convolve(centered(x, x_zero_point), w, auto_pad, dilations, group, pads, strides)
    channels = [-1, *[1] * (x.ndim - 2)]
    if bias is not None:
        total = total.double() + bias.reshape(channels)
    scale = (x_scale * w_scale / y_scale).float().reshape(channels)
    return requantize(total, scale, y_zero_point, level_type(x, y_zero_point))


@op("QLinearConv", domain="com.microsoft")
def qlinear_conv_microsoft(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    w: Tensor,
    w_scale: Tensor,
    w_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    channels_last: int = 0,
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """QLinearConv whose input and result may hold their channels last."""
    y = qlinear_conv(
        x.movedim(-1, 1) if channels_last else x,
        x_scale,
        x_zero_point,
        w,
        w_scale,
        w_zero_point,
        y_scale,
        y_zero_point,
        bias,
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        pads=pads,
        strides=strides,
    )
    return y.movedim(1, -1) if channels_last else y


@op("QLinearMatMul", since=10)
def qlinear_mat_mul(
    a: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
) -> Tensor:
    """Matrix product of quantized tensors onto the grid of the result; grids may differ by row of a and column of b."""
    total = multiply(minus(a, rows(a_zero_point)), minus(b, b_zero_point))
    return requantize(total, rows(a_scale) * b_scale / y_scale, y_zero_point, y_zero_point.dtype)
