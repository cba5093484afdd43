"""Matrix products."""

import torch
from torch import Tensor

from toolchain.ops.registry import op


@op("MatMul", trainable=(0, 1))
def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product with numpy semantics."""
    return torch.matmul(a, b)


@op("Gemm", since=7, trainable=(0, 1, 2))
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
    return torch.addmm(c, a, b, beta=beta, alpha=alpha)


@op("Einsum", since=12, trainable=(0, 1))
def einsum(*xs: Tensor, equation: str) -> Tensor:
    """Sum of products over the labels of ``equation``."""
    return torch.einsum(equation.replace(" ", ""), *xs)


@op("Det", since=11)
def det(x: Tensor) -> Tensor:
    """Determinant of every matrix in the last two dimensions."""
    return torch.det(x)
