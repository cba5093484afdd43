"""Arithmetic on uint16, uint32 and uint64, which torch can hold but not compute with.

They are computed in int64, whose arithmetic wraps around, and cut to their bits again. What depends on the order of
uint64, or divides it, needs more care, as its larger half is negative in int64. Other types pass at no cost.
"""

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor

UNSIGNED = frozenset({torch.uint16, torch.uint32, torch.uint64})

_SIGN = torch.iinfo(torch.int64).min


def modular(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Let a function of sums and products, whose result has the type of its first argument, take unsigned integers."""

    @wraps(function)
    def call(x: Tensor, *others: object) -> Tensor:
        if x.dtype not in UNSIGNED:
            return function(x, *others)
        wide = (other.to(torch.int64) if isinstance(other, Tensor) else other for other in others)
        return function(x.to(torch.int64), *wide).to(x.dtype)

    return call


def ordered(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Let a function that picks values by their order take unsigned integers."""

    @wraps(function)
    def call(x: Tensor, *others: object) -> Tensor:
        if x.dtype not in UNSIGNED:
            return function(x, *others)
        mapped = (comparable(other) if isinstance(other, Tensor) else other for other in others)
        found = function(comparable(x), *mapped)
        return (found ^ _SIGN if x.dtype == torch.uint64 else found).to(x.dtype)

    return call


def comparable(x: Tensor) -> Tensor:
    """Return values in the same order that torch can compare; all but unsigned integers come back as they are."""
    if x.dtype not in UNSIGNED:
        return x
    wide = x.to(torch.int64)
    return wide ^ _SIGN if x.dtype == torch.uint64 else wide


def divide(a: Tensor, b: Tensor) -> Tensor:
    """Return the whole quotients of unsigned integers."""
    wide, by = a.to(torch.int64), b.to(torch.int64)
    if a.dtype != torch.uint64:
        return torch.div(wide, by, rounding_mode="trunc").to(a.dtype)
    # Half the dividend is positive; doubling its quotient leaves a remainder below twice the divisor.
    quotient = torch.div(shift_right(wide, 1), by.clamp(min=1), rounding_mode="trunc") * 2
    rest = wide - quotient * by
    quotient = quotient + ((rest ^ _SIGN) >= (by ^ _SIGN))
    # A divisor in the upper half goes in once or not at all.
    return torch.where(by < 0, ((wide ^ _SIGN) >= (by ^ _SIGN)).to(torch.int64), quotient).to(a.dtype)


def shift_right(x: Tensor, amount: Tensor | int) -> Tensor:
    """Return int64 bits shifted right, zeros moving in; ``amount`` is 0 to 63."""
    by = torch.as_tensor(amount, device=x.device)
    return torch.where(by == 0, x, ((x >> 1) & ~_SIGN) >> (by - 1).clamp(min=0))
