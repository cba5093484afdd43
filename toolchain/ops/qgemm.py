"""com.microsoft's matrix products of quantized tensors, and the attention that begins with one."""

import torch
from torch import Tensor

from toolchain.graph import Node
from toolchain.ops.integer import minus, multiply, requantize, rows
from toolchain.ops.levels import quantize
from toolchain.ops.microsoft_attention import attention
from toolchain.ops.quantization import dynamic_grid
from toolchain.ops.registry import op

MICROSOFT = "com.microsoft"


@op("MatMulIntegerToFloat", domain=MICROSOFT)
def mat_mul_integer_to_float(
    a: Tensor,
    b: Tensor,
    a_scale: Tensor,
    b_scale: Tensor,
    a_zero_point: Tensor | None = None,
    b_zero_point: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Matrix product of quantized tensors as floats; scales and zero points may differ by column of b."""
    total = multiply(minus(a, a_zero_point), minus(b, b_zero_point)).float()
    y = total * (rows(a_scale) * b_scale)
    y = y if bias is None else y + bias
    return y.to(a_scale.dtype)


@op("DynamicQuantizeMatMul", domain=MICROSOFT)
def dynamic_quantize_mat_mul(
    a: Tensor, b: Tensor, b_scale: Tensor, b_zero_point: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """Matrix product with a quantized tensor; ``a`` is rounded to 8 bits on the grid that its values span."""
    scale, zero_point = dynamic_grid(a)
    levels = quantize(a / scale, zero_point, torch.uint8)
    return mat_mul_integer_to_float(levels, b, scale, b_scale, zero_point, b_zero_point, bias)


@op("QGemm", domain=MICROSOFT)
def qgemm(
    a: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor,
    c: Tensor | None = None,
    y_scale: Tensor | None = None,
    y_zero_point: Tensor | None = None,
    *,
    alpha: float = 1.0,
    transA: int = 0,  # noqa: N803 - the attribute's ONNX name
    transB: int = 0,  # noqa: N803 - the attribute's ONNX name
) -> Tensor:
    """``alpha * A' @ B' + C`` of quantized tensors; ``c`` is int32 on the product's grid.

    The result is quantized where its grid is given, and float otherwise.
    """
    factor = minus(b.T if transB else b, b_zero_point)
    total = multiply(minus(a.T if transA else a, a_zero_point), factor)
    total = total if c is None else total.double() + c
    scale = alpha * a_scale * b_scale
    if y_scale is None or y_zero_point is None:
        return total.float() * scale
    return requantize(total, scale / y_scale, y_zero_point, y_zero_point.dtype)


def _refuse(node: Node) -> str:
    shared = node.attributes.get("do_rotary") or node.attributes.get("past_present_share_buffer")
    return "rotary positions and a shared buffer are for generation on a GPU" if shared else ""


@op("QAttention", domain=MICROSOFT, refuses=_refuse)
def qattention(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    x_scale: Tensor,
    weight_scale: Tensor,
    mask_index: Tensor | None = None,
    x_zero_point: Tensor | None = None,
    weight_zero_point: Tensor | None = None,
    past: Tensor | None = None,
    *,
    do_rotary: int = 0,
    mask_filter_value: float = -10000.0,
    num_heads: int,
    past_present_share_buffer: int = 0,
    scale: float | None = None,
    unidirectional: int = 0,
    output_count: int = 1,
) -> tuple[Tensor, ...]:
    """com.microsoft's Attention of quantized ``x`` and ``weight``; its result is float, and so are its products."""
    return attention(
        minus(x, x_zero_point) * x_scale,
        minus(weight, weight_zero_point) * weight_scale,
        bias,
        mask_index,
        past,
        mask_filter_value=mask_filter_value,
        num_heads=num_heads,
        scale=scale,
        unidirectional=unidirectional,
        output_count=output_count,
    )
