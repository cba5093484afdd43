"""Operators that make tensors."""

import torch
from torch import Tensor

from toolchain.ops.dtypes import torch_dtype
from toolchain.ops.registry import op


@op("ConstantOfShape", since=9)
def constant_of_shape(shape: list[int], *, value: Tensor | None = None) -> Tensor:
    """A tensor of ``shape`` filled with one value, float 0 by default."""
    fill = torch.zeros(1) if value is None else value
    return fill.reshape(()).expand(shape).clone()


@op("Range", since=11)
def range_of(start: Tensor, limit: Tensor, delta: Tensor, *, stash_type: int = 1) -> Tensor:
    """The numbers from ``start`` up to but without ``limit`` in steps of ``delta``."""
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype, device=start.device)


@op("EyeLike", since=9)
def eye_like(x: Tensor, *, dtype: int | None = None, k: int = 0) -> Tensor:
    """Zeros of the shape of ``x`` with ones on diagonal ``k``."""
    kind = x.dtype if dtype is None else torch_dtype(dtype)
    return torch.ones_like(x, dtype=torch.int8).triu(k).tril(k).to(kind)


@op("Trilu", since=14)
def trilu(x: Tensor, k: list[int] | None = None, *, upper: int = 1) -> Tensor:
    """The upper or lower triangle of every matrix, zeros elsewhere."""
    diagonal = k[0] if k else 0
    return x.triu(diagonal) if upper else x.tril(diagonal)


@op("OneHot", since=9)
def one_hot(indices: Tensor, depth: list[int], values: Tensor, *, axis: int = -1) -> Tensor:
    """``values[1]`` at each index along a new ``axis`` of length ``depth``, ``values[0]`` elsewhere."""
    length = depth[0]
    axis %= indices.ndim + 1
    index = indices.to(torch.int64)
    index = torch.where(index < 0, index + length, index).unsqueeze(axis)
    steps = torch.arange(length, device=indices.device).reshape(-1, *[1] * (indices.ndim - axis))
    return torch.where(index == steps, values[1], values[0])
