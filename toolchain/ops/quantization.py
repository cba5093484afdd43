"""QuantizeLinear and DequantizeLinear, of ai.onnx and of com.microsoft, and DynamicQuantizeLinear."""

import torch
from onnx import TensorProto
from torch import Tensor

from toolchain.ops.dtypes import numbers, torch_dtype
from toolchain.ops.levels import centered, quantize, spread
from toolchain.ops.registry import op


@op("QuantizeLinear", since=10, trainable=(0,))
@op("QuantizeLinear", domain="com.microsoft", trainable=(0,))
def quantize_linear_in_single(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    saturate: int = 1,
) -> Tensor:
    """``round(x / scale) + zero_point``, saturated to the output type; halves go to even (before opset 23).

    Half precision is divided in float32, as ONNX Runtime does.
    """
    return quantize_linear(
        x,
        scale,
        zero_point,
        axis=axis,
        block_size=block_size,
        output_dtype=output_dtype,
        precision=TensorProto.DOUBLE if x.dtype == torch.float64 else TensorProto.FLOAT,
        saturate=saturate,
    )


@op("QuantizeLinear", since=23, trainable=(0,))
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
    """``round(x / scale) + zero_point``, saturated to the output type; halves go to even.

    The division is done in ``precision``, or else in the type of ``scale``. So does ONNX Runtime since 1.32; before, it
    divided half precision in float32, which rounds to the neighbouring level once in a hundred times.
    """
    kind = torch_dtype(output_dtype) if output_dtype else torch.uint8 if zero_point is None else zero_point.dtype
    divisor = spread(scale, x, axis, block_size)
    exact = torch_dtype(precision) if precision else divisor.dtype if divisor.is_floating_point() else torch.float32
    zero = None if zero_point is None else spread(zero_point, x, axis, block_size).to(torch.float32)
    return quantize(x.to(exact) / divisor.to(exact), zero, kind, bool(saturate))


@op("DequantizeLinear", since=10)
@op("DequantizeLinear", domain="com.microsoft")
def dequantize_linear(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
) -> Tensor:
    """``(x - zero_point) * scale``, computed in float32."""
    kind = torch_dtype(output_dtype) if output_dtype else numbers(scale).dtype
    return (centered(x, zero_point, axis, block_size) * spread(scale, x, axis, block_size).float()).to(kind)


def dynamic_grid(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scale and the zero point, a float, of the uint8 grid that the minimum and maximum of ``x`` span.

    The scale of a tensor of zeros is 1, as ONNX Runtime has it.
    """
    low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
    span = high - low
    scale = torch.where(span == 0, 1.0, span / 255)
    return scale, torch.round((0 - low / scale).detach().clamp(0, 255))


@op("DynamicQuantizeLinear", since=11)
def dynamic_quantize_linear(x: Tensor) -> tuple[Tensor, ...]:
    """The uint8 levels of ``x`` on the grid that its own minimum and maximum span, with scale and zero point."""
    scale, zero_point = dynamic_grid(x)
    return quantize(x / scale, zero_point, torch.uint8), scale, zero_point.to(torch.uint8)
