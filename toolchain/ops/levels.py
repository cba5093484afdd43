"""What all quantized operators share: grids, rounding onto them, and the gradient that passes through.

The levels of a quantized tensor are an integer tensor, or one of small floats. While a gradient is asked for they are
held in a float tensor of the same values instead, as torch has no gradient of integers: the rounding passes the
gradient on as if it were not there, and what saturates stops it. Operators that take levels therefore accept both, and
know the type that they are levels of from the zero point.
"""

import torch
from torch import Tensor

from toolchain.ops.casting import convert, straight_through, tracked
from toolchain.ops.dtypes import SMALL_FLOATS, SMALL_INTEGERS, integer_limits, numbers

QUANTIZED = frozenset({torch.uint8, torch.int8, torch.uint16, torch.int16, *SMALL_INTEGERS, *SMALL_FLOATS})


def spread(values: Tensor, like: Tensor, axis: int, block_size: int = 0) -> Tensor:
    """Return scales or zero points shaped so that they broadcast over ``like``: per tensor, axis or block."""
    values = numbers(values)
    if values.numel() == 1 and values.ndim <= 1:
        return values.reshape(())
    if block_size:
        return values.repeat_interleave(block_size, axis).narrow(axis, 0, like.shape[axis])
    shape = [1] * like.ndim
    shape[axis] = -1
    return values.reshape(shape)


def centered(levels: Tensor, zero_point: Tensor | None, axis: int = 1, block_size: int = 0) -> Tensor:
    """Return ``levels - zero_point`` in float32, which holds every difference of integers of up to 16 bits."""
    values = numbers(levels)
    if zero_point is None:
        return values if values.is_floating_point() else values.float()
    zero = spread(zero_point, values, axis, block_size)
    if values.dtype == torch.int32:
        return (values - zero).float()
    return (values if values.is_floating_point() else values.float()) - zero.float()


def level_type(levels: Tensor, zero_point: Tensor | None) -> torch.dtype:
    """Return the type that a result has whose zero point may be left out: that of ``levels``.

    Raises:
        ValueError: the levels are held in floats, and no zero point says what they are levels of.
    """
    kind = levels.dtype if zero_point is None else zero_point.dtype
    if kind not in QUANTIZED:
        raise ValueError(f"levels held in {kind} need a zero point that says what type they are of")
    return kind


def quantize(real: Tensor, zero_point: Tensor | None, kind: torch.dtype, saturate: bool = True) -> Tensor:
    """Return the levels of type ``kind`` nearest to ``real + zero_point``; halves go to even.

    Args:
        real: what is to be quantized, divided by its scale.
        zero_point: a tensor that broadcasts over ``real``, or None for 0.
        kind: an integer type, in which levels saturate, or a type of small floats.
        saturate: whether small floats saturate too.
    """
    zero = 0 if zero_point is None else zero_point
    if kind in SMALL_FLOATS:
        return convert(real + zero, kind, saturate)
    low, high = integer_limits(kind)
    real = real if real.dtype == torch.float64 else real.float()
    levels = (torch.round(real) + zero).clamp(low, high)
    if tracked(real):
        return straight_through(levels, (real + zero).clamp(low, high))
    return levels.to(SMALL_INTEGERS[kind][1]).view(kind) if kind in SMALL_INTEGERS else levels.to(kind)
