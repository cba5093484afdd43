"""Weights packed into a few bits each, block by block."""

import torch
from torch import Tensor

from toolchain.graph import Node
from toolchain.ops.registry import op


def _refusal(node: Node) -> str:
    if node.attributes.get("bits", 4) not in (2, 4, 8):
        return "weights of other than 2, 4 and 8 bits do not fill whole bytes"
    if len(node.inputs) > 4 and node.inputs[4]:
        return "g_idx is deprecated, and what it means depends on the bits and on the zero points"
    return "the weights are packed for another device" if node.attributes.get("weight_prepacked", 0) else ""


@op("MatMulNBits", domain="com.microsoft", refuses=_refusal)
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
    weight_prepacked: int = 0,
) -> Tensor:
    """``a @ dequantized(b).T``; ``b`` is uint8 ``[N, blocks, bytes]`` with the lowest bits first.

    ``accuracy_level`` lets a runtime round ``a`` inside; here it is never rounded.

    Source: onnxruntime ContribOperators.md, com.microsoft.MatMulNBits.
    """
    blocks = -(-K // block_size)
    levels = _unpack(b.reshape(N, -1), bits)[:, :K]
    block = torch.arange(K, device=b.device) // block_size
    zero = 2 ** (bits - 1) if zero_points is None else _zero_points(zero_points, N, blocks, bits)[:, block]
    weight = (levels - zero) * scales.reshape(N, blocks)[:, block]
    y = a @ weight.to(a.dtype).T
    return y if bias is None else y + bias


def _zero_points(packed: Tensor, rows: int, blocks: int, bits: int) -> Tensor:
    """Return the zero points ``[rows, blocks]``, which come packed like the weight or as floats."""
    if packed.dtype != torch.uint8:
        return packed.reshape(rows, blocks)
    return _unpack(packed.reshape(rows, -1), bits)[:, :blocks]


def _unpack(packed: Tensor, bits: int) -> Tensor:
    """Return the int32 codes of ``bits`` bits in the last dimension of a uint8 tensor, lowest bits first."""
    shifts = torch.arange(0, 8, bits, device=packed.device, dtype=torch.int32)
    codes: Tensor = (packed.to(torch.int32)[..., None] >> shifts) & (2**bits - 1)
    return codes.flatten(-2)
