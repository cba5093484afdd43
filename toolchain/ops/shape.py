"""Operators that move values without changing them."""

from math import prod

from torch import Tensor

from toolchain.ops.registry import op


@op("Flatten")
def flatten(x: Tensor, *, axis: int = 1) -> Tensor:
    """Reshape to two dimensions, split before ``axis``."""
    axis %= x.ndim + 1
    return x.reshape(prod(x.shape[:axis]), -1)
