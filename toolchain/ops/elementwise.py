"""Elementwise operators and matrix products."""

import torch
from torch import Tensor

from toolchain.ops.registry import op


@op("Relu")
def relu(x: Tensor) -> Tensor:
    """max(x, 0)."""
    return torch.relu(x)


@op("Add", since=7)
def add(a: Tensor, b: Tensor) -> Tensor:
    """A + B with numpy broadcasting."""
    return a + b


@op("MatMul")
def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product with numpy semantics."""
    return torch.matmul(a, b)


@op("Gemm", since=7)
def gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803 - the attribute's ONNX name
    transB: int = 0,  # noqa: N803 - the attribute's ONNX name
) -> Tensor:
    """Alpha * A' @ B' + beta * C."""
    a, b = a.T if transA else a, b.T if transB else b
    if c is None:
        return alpha * (a @ b)
    if c.ndim == 1 and alpha == 1.0 and beta == 1.0:
        return torch.addmm(c, a, b)
    return alpha * (a @ b) + beta * c
