"""Elementwise arithmetic of one, two or any number of tensors."""

from functools import reduce

import torch
from torch import Tensor

from toolchain.ops.registry import op
from toolchain.ops.unsigned import UNSIGNED, divide, modular, ordered


@op("Add", since=7)
@modular
def add(a: Tensor, b: Tensor) -> Tensor:
    """A + B with numpy broadcasting."""
    return a + b


@op("Sub", since=7)
@modular
def sub(a: Tensor, b: Tensor) -> Tensor:
    """A - B with numpy broadcasting."""
    return a - b


@op("Mul", since=7)
@modular
def mul(a: Tensor, b: Tensor) -> Tensor:
    """A * B with numpy broadcasting."""
    return a * b


@op("Div", since=7)
def div(a: Tensor, b: Tensor) -> Tensor:
    """A / B with numpy broadcasting; integers are divided towards zero."""
    if a.dtype in UNSIGNED:
        return divide(a, b)
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


@op("Mod", since=10)
def mod(a: Tensor, b: Tensor, *, fmod: int = 0) -> Tensor:
    """Remainder with the sign of the divisor, or as C's fmod with the sign of the dividend."""
    if a.dtype in UNSIGNED:
        return sub(a, mul(divide(a, b), b))
    return torch.fmod(a, b) if fmod else torch.remainder(a, b)


@op("Pow", since=7)
def power(x: Tensor, y: Tensor) -> Tensor:
    """X to the power of Y, in the type of X."""
    base, exponent = (z.to(torch.int64) if z.dtype in UNSIGNED else z for z in (x, y))
    return torch.pow(base, exponent).to(x.dtype)


@op("Sum", since=6)
@modular
def sum_of(*xs: Tensor) -> Tensor:
    """Sum of all inputs with numpy broadcasting."""
    return reduce(torch.add, xs)


@op("Mean", since=6)
def mean_of(*xs: Tensor) -> Tensor:
    """Mean of all inputs with numpy broadcasting."""
    return reduce(torch.add, xs) / len(xs)


@op("Max", since=6)
@ordered
def max_of(*xs: Tensor) -> Tensor:
    """Elementwise maximum of all inputs with numpy broadcasting."""
    return reduce(torch.maximum, xs)


@op("Min", since=6)
@ordered
def min_of(*xs: Tensor) -> Tensor:
    """Elementwise minimum of all inputs with numpy broadcasting."""
    return reduce(torch.minimum, xs)


@op("Abs", since=6)
def absolute(x: Tensor) -> Tensor:
    """|x|."""
    return x if x.dtype in UNSIGNED else torch.abs(x)


@op("Neg", since=6)
def neg(x: Tensor) -> Tensor:
    """-x."""
    return torch.neg(x)


@op("Sign", since=9)
def sign(x: Tensor) -> Tensor:
    """-1, 0 or 1."""
    return (x != 0).to(x.dtype) if x.dtype in UNSIGNED else torch.sign(x)


@op("Reciprocal", since=6)
def reciprocal(x: Tensor) -> Tensor:
    """1 / x."""
    return torch.reciprocal(x)


@op("Sqrt", since=6)
def sqrt(x: Tensor) -> Tensor:
    """Square root."""
    return torch.sqrt(x)


@op("Exp", since=6)
def exp(x: Tensor) -> Tensor:
    """Natural exponential."""
    return torch.exp(x)


@op("Log", since=6)
def log(x: Tensor) -> Tensor:
    """Natural logarithm."""
    return torch.log(x)


@op("Erf", since=9)
def erf(x: Tensor) -> Tensor:
    """Gauss error function."""
    return torch.erf(x)


@op("Floor", since=6)
def floor(x: Tensor) -> Tensor:
    """Largest integer not above x."""
    return torch.floor(x)


@op("Ceil", since=6)
def ceil(x: Tensor) -> Tensor:
    """Smallest integer not below x."""
    return torch.ceil(x)


@op("Round", since=11)
def round_half_even(x: Tensor) -> Tensor:
    """Nearest integer, halves to even."""
    return torch.round(x)
