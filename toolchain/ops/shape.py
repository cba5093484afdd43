"""Operators that describe, reshape, join and split tensors without changing values."""

import numpy as np
import torch
from torch import Tensor

from toolchain.ops.registry import op


@op("Identity")
def identity(x: Tensor) -> Tensor:
    """The input as it is."""
    return x


@op("Shape")
def shape(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    """The dimensions from ``start`` to ``end`` as int64, on the CPU like every shape."""
    return torch.tensor(x.shape[start:end], dtype=torch.int64)


@op("Size")
def size(x: Tensor) -> Tensor:
    """The number of elements as int64, on the CPU like every shape."""
    return torch.tensor(x.numel(), dtype=torch.int64)


@op("Reshape", since=5)
def reshape(x: Tensor, shape: list[int], *, allowzero: int = 0) -> Tensor:
    """New shape, where 0 keeps a dimension (unless ``allowzero``) and -1 takes what is left."""
    if not allowzero:
        shape = [x.shape[axis] if length == 0 else length for axis, length in enumerate(shape)]
    return x.reshape(shape)


@op("Flatten")
def flatten(x: Tensor, *, axis: int = 1) -> Tensor:
    """Reshape to two dimensions, split before ``axis``."""
    outer = x.shape[: axis if axis >= 0 else axis + x.ndim].numel()
    return x.reshape(outer, x.numel() // outer if outer else -1)


@op("Transpose")
def transpose(x: Tensor, *, perm: list[int] | None = None) -> Tensor:
    """Permute the dimensions; without ``perm`` reverse them."""
    return x.permute(*(reversed(range(x.ndim)) if perm is None else perm))


@op("Squeeze")
def squeeze_attribute(x: Tensor, *, axes: list[int] | None = None) -> Tensor:
    """Drop dimensions of size 1 (axes as an attribute, before opset 13)."""
    return squeeze(x, axes)


@op("Squeeze", since=13)
def squeeze(x: Tensor, axes: list[int] | None = None) -> Tensor:
    """Drop the given dimensions of size 1, or all of them."""
    if axes is None:
        return x.squeeze()
    wrong = [axis for axis in axes if x.shape[axis] != 1]
    if wrong:
        raise ValueError(f"dimension {wrong[0]} has size {x.shape[wrong[0]]}, only size 1 can be squeezed")
    return x.squeeze(tuple(axes))


@op("Unsqueeze")
def unsqueeze_attribute(x: Tensor, *, axes: list[int]) -> Tensor:
    """Insert dimensions of size 1 (axes as an attribute, before opset 13)."""
    return unsqueeze(x, axes)


@op("Unsqueeze", since=13)
def unsqueeze(x: Tensor, axes: list[int]) -> Tensor:
    """Insert dimensions of size 1 at positions of the result."""
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


@op("Concat", since=4)
def concat(*xs: Tensor, axis: int) -> Tensor:
    """Join along ``axis``."""
    return torch.cat(xs, axis)


def _split(x: Tensor, axis: int, sizes: list[int] | None, count: int) -> tuple[Tensor, ...]:
    """Split into parts of the given sizes, or into ``count`` equal ones of which the last may be smaller."""
    return torch.split(x, -(-x.shape[axis] // count) if sizes is None else sizes, axis)


@op("Split", since=2)
def split_attribute(
    x: Tensor, *, axis: int = 0, split: list[int] | None = None, output_count: int = 1
) -> tuple[Tensor, ...]:
    """Split along ``axis`` (sizes as an attribute, before opset 13)."""
    return _split(x, axis, split, output_count)


@op("Split", since=13)
def split_input(
    x: Tensor,
    split: list[int] | None = None,
    *,
    axis: int = 0,
    num_outputs: int | None = None,
    output_count: int = 1,
) -> tuple[Tensor, ...]:
    """Split along ``axis`` into parts of the given sizes or into equal ones."""
    return _split(x, axis, split, num_outputs or output_count)


@op("Expand", since=8)
def expand(x: Tensor, shape: list[int]) -> Tensor:
    """Broadcast to ``shape``; a 1 in it keeps the input's dimension."""
    return x.expand(np.broadcast_shapes(x.shape, tuple(shape)))


@op("Tile", since=6)
def tile(x: Tensor, repeats: list[int]) -> Tensor:
    """Repeat every dimension."""
    return x.repeat(repeats)


@op("DepthToSpace")
def depth_to_space(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """Move blocks of channels into space: depth-column-row or column-row-depth order of the channels."""
    n, c, h, w = x.shape
    b = blocksize
    if mode == "DCR":
        x = x.reshape(n, b, b, c // b**2, h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        x = x.reshape(n, c // b**2, b, b, h, w).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(n, c // b**2, h * b, w * b)


@op("SpaceToDepth")
def space_to_depth(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """Move blocks of space into channels, in depth-column-row or column-row-depth order."""
    n, c, h, w = x.shape
    b = blocksize
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    return x.reshape(n, c, h // b, b, w // b, b).permute(order).reshape(n, c * b**2, h // b, w // b)
