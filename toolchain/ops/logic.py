"""Comparisons, logic, bits and selection."""

import torch
from torch import Tensor

from toolchain.ops.dtypes import numbers
from toolchain.ops.registry import op
from toolchain.ops.unsigned import comparable, modular, shift_right


@op("Equal", since=7)
def equal(a: Tensor, b: Tensor) -> Tensor:
    """A == B."""
    return torch.eq(a, b)


@op("Greater", since=7)
def greater(a: Tensor, b: Tensor) -> Tensor:
    """A > B."""
    return torch.gt(comparable(a), comparable(b))


@op("GreaterOrEqual", since=12)
def greater_or_equal(a: Tensor, b: Tensor) -> Tensor:
    """A >= B."""
    return torch.ge(comparable(a), comparable(b))


@op("Less", since=7)
def less(a: Tensor, b: Tensor) -> Tensor:
    """A < B."""
    return torch.lt(comparable(a), comparable(b))


@op("LessOrEqual", since=12)
def less_or_equal(a: Tensor, b: Tensor) -> Tensor:
    """A <= B."""
    return torch.le(comparable(a), comparable(b))


@op("And", since=7)
def logical_and(a: Tensor, b: Tensor) -> Tensor:
    """A and B."""
    return torch.logical_and(a, b)


@op("Or", since=7)
def logical_or(a: Tensor, b: Tensor) -> Tensor:
    """A or B."""
    return torch.logical_or(a, b)


@op("Xor", since=7)
def logical_xor(a: Tensor, b: Tensor) -> Tensor:
    """A or B but not both."""
    return torch.logical_xor(a, b)


@op("Not")
def logical_not(x: Tensor) -> Tensor:
    """Not x."""
    return torch.logical_not(x)


@op("Where", since=9)
def where(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """X where the condition holds, Y elsewhere."""
    return torch.where(condition, x, y)


@op("IsNaN", since=9)
def is_nan(x: Tensor) -> Tensor:
    """True where x is not a number."""
    return torch.isnan(numbers(x))


@op("IsInf", since=10)
def is_inf(x: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    """True where x is infinite with a sign that is asked for."""
    x = numbers(x)
    found = torch.zeros_like(x, dtype=torch.bool)
    if detect_negative:
        found = found | torch.isneginf(x)
    if detect_positive:
        found = found | torch.isposinf(x)
    return found


@op("BitShift", since=11)
def bit_shift(x: Tensor, y: Tensor, *, direction: str) -> Tensor:
    """Shift integers to the LEFT or RIGHT by y bits; by a negative number or by all bits, only the sign remains."""
    wide, amount = x.to(torch.int64), y.to(torch.int64)
    outside = (amount < 0) | (amount >= 8 * x.dtype.itemsize)
    amount = amount.clamp(0, 63)
    if direction == "RIGHT" and x.dtype != torch.uint64:
        return (wide >> torch.where(outside, 63, amount)).to(x.dtype)
    moved = wide << amount if direction == "LEFT" else shift_right(wide, amount)
    return moved.masked_fill(outside, 0).to(x.dtype)


@op("BitwiseAnd", since=18)
def bitwise_and(a: Tensor, b: Tensor) -> Tensor:
    """A and B, bit by bit."""
    return torch.bitwise_and(a, b)


@op("BitwiseOr", since=18)
def bitwise_or(a: Tensor, b: Tensor) -> Tensor:
    """A or B, bit by bit."""
    return torch.bitwise_or(a, b)


@op("BitwiseXor", since=18)
def bitwise_xor(a: Tensor, b: Tensor) -> Tensor:
    """Exclusive or, bit by bit."""
    return torch.bitwise_xor(a, b)


@op("BitwiseNot", since=18)
@modular
def bitwise_not(x: Tensor) -> Tensor:
    """Not x, bit by bit."""
    return torch.bitwise_not(x)
