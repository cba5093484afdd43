"""Comparisons, logic, bits and selection."""

import torch
from torch import Tensor

from toolchain.ops.registry import op


@op("Equal", since=7)
def equal(a: Tensor, b: Tensor) -> Tensor:
    """A == B."""
    return torch.eq(a, b)


@op("Greater", since=7)
def greater(a: Tensor, b: Tensor) -> Tensor:
    """A > B."""
    return torch.gt(a, b)


@op("GreaterOrEqual", since=12)
def greater_or_equal(a: Tensor, b: Tensor) -> Tensor:
    """A >= B."""
    return torch.ge(a, b)


@op("Less", since=7)
def less(a: Tensor, b: Tensor) -> Tensor:
    """A < B."""
    return torch.lt(a, b)


@op("LessOrEqual", since=12)
def less_or_equal(a: Tensor, b: Tensor) -> Tensor:
    """A <= B."""
    return torch.le(a, b)


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
    return torch.isnan(x)


@op("IsInf", since=10)
def is_inf(x: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    """True where x is infinite with a sign that is asked for."""
    found = torch.zeros_like(x, dtype=torch.bool)
    if detect_negative:
        found = found | torch.isneginf(x)
    if detect_positive:
        found = found | torch.isposinf(x)
    return found


@op("BitShift", since=11)
def bit_shift(x: Tensor, y: Tensor, *, direction: str) -> Tensor:
    """Shift unsigned integers to the LEFT or RIGHT by y bits."""
    wide, amount = x.to(torch.int64), y.to(torch.int64)
    return (wide << amount if direction == "LEFT" else wide >> amount).to(x.dtype)


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
def bitwise_not(x: Tensor) -> Tensor:
    """Not x, bit by bit."""
    return torch.bitwise_not(x)
