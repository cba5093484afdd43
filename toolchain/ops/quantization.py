"""Quantized tensors: what this toolchain's own files use."""

import torch
from torch import Tensor

from toolchain.ops.dtypes import torch_dtype
from toolchain.ops.registry import op


def _spread(values: Tensor, like: Tensor, axis: int, block_size: int) -> Tensor:
    """Return scales or zero points shaped so that they broadcast over ``like``: per tensor, axis or block."""
    if values.numel() == 1 and values.ndim <= 1:
        return values.reshape(())
    if block_size:
        return values.repeat_interleave(block_size, axis).narrow(axis, 0, like.shape[axis])
    shape = [1] * like.ndim
    shape[axis] = -1
    return values.reshape(shape)


@op("QuantizeLinear", since=10)
def quantize_linear(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
) -> Tensor:
    """``round(x / scale) + zero_point``, saturated to the integer type; halves go to even."""
    kind = torch_dtype(output_dtype) if output_dtype else torch.uint8 if zero_point is None else zero_point.dtype
    limits = torch.iinfo(kind)
    levels = torch.round(x / _spread(scale, x, axis, block_size))
    if zero_point is not None:
        levels = levels + _spread(zero_point, x, axis, block_size).to(levels.dtype)
    return levels.clamp(limits.min, limits.max).to(kind)


@op("DequantizeLinear", since=10)
def dequantize_linear(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
) -> Tensor:
    """``(x - zero_point) * scale``."""
    levels = x.to(scale.dtype)
    if zero_point is not None:
        levels = levels - _spread(zero_point, x, axis, block_size).to(scale.dtype)
    values = levels * _spread(scale, x, axis, block_size)
    return values.to(torch_dtype(output_dtype)) if output_dtype else values


@op("DynamicQuantizeLinear", since=11)
def dynamic_quantize_linear(x: Tensor) -> tuple[Tensor, ...]:
    """The uint8 levels of ``x`` on the grid that its own minimum and maximum span, with scale and zero point."""
    low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
    scale = (high - low) / 255
    zero_point = torch.round(-low / scale).clamp(0, 255)
    levels = (torch.round(x / scale) + zero_point).clamp(0, 255)
    return levels.to(torch.uint8), scale, zero_point.to(torch.uint8)


@op("MatMulNBits", domain="com.microsoft")
def mat_mul_n_bits(
    a: Tensor,
    b: Tensor,
    scales: Tensor,
    zero_points: Tensor | None = None,
    g_idx: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    K: int,  # noqa: N803 - the attribute's ONNX name
    N: int,  # noqa: N803 - the attribute's ONNX name
    accuracy_level: int = 0,
    bits: int = 4,
    block_size: int,
) -> Tensor:
    """``a @ dequantized(b).T``; ``b`` is uint8 ``[N, blocks, bytes]`` with the lowest bits first.

    Source: onnxruntime ContribOperators.md, com.microsoft.MatMulNBits.
    """
    if g_idx is not None or (zero_points is not None and zero_points.dtype != torch.uint8):
        raise ValueError("g_idx and unpacked zero points are not supported")
    blocks = -(-K // block_size)
    levels = _unpack(b.reshape(N, -1), bits)[:, : blocks * block_size].reshape(N, blocks, block_size)
    if zero_points is None:
        zero = torch.full((), 2 ** (bits - 1), dtype=torch.int32, device=b.device)
    else:
        zero = _unpack(zero_points.reshape(N, -1), bits)[:, :blocks, None]
    weight = ((levels - zero) * scales.reshape(N, blocks, 1)).reshape(N, -1)[:, :K]
    y = a @ weight.to(a.dtype).T
    return y if bias is None else y + bias


def _unpack(packed: Tensor, bits: int) -> Tensor:
    """Return the int32 codes of ``bits`` bits in the last dimension of a uint8 tensor, lowest bits first."""
    shifts = torch.arange(0, 8, bits, device=packed.device, dtype=torch.int32)
    codes: Tensor = (packed.to(torch.int32)[..., None] >> shifts) & (2**bits - 1)
    return codes.flatten(-2)
