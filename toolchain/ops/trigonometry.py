"""Trigonometric and hyperbolic functions."""

import torch
from torch import Tensor

from toolchain.ops.registry import op


@op("Sin", since=7)
def sin(x: Tensor) -> Tensor:
    """Sine of an angle in radians."""
    return torch.sin(x)


@op("Cos", since=7)
def cos(x: Tensor) -> Tensor:
    """Cosine of an angle in radians."""
    return torch.cos(x)


@op("Tan", since=7)
def tan(x: Tensor) -> Tensor:
    """Tangent of an angle in radians."""
    return torch.tan(x)


@op("Asin", since=7)
def asin(x: Tensor) -> Tensor:
    """Inverse sine in radians."""
    return torch.asin(x)


@op("Acos", since=7)
def acos(x: Tensor) -> Tensor:
    """Inverse cosine in radians."""
    return torch.acos(x)


@op("Atan", since=7)
def atan(x: Tensor) -> Tensor:
    """Inverse tangent in radians."""
    return torch.atan(x)


@op("Sinh", since=9)
def sinh(x: Tensor) -> Tensor:
    """Hyperbolic sine."""
    return torch.sinh(x)


@op("Cosh", since=9)
def cosh(x: Tensor) -> Tensor:
    """Hyperbolic cosine."""
    return torch.cosh(x)


@op("Tanh", since=6)
def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return torch.tanh(x)


@op("Asinh", since=9)
def asinh(x: Tensor) -> Tensor:
    """Inverse hyperbolic sine."""
    return torch.asinh(x)


@op("Acosh", since=9)
def acosh(x: Tensor) -> Tensor:
    """Inverse hyperbolic cosine."""
    return torch.acosh(x)


@op("Atanh", since=9)
def atanh(x: Tensor) -> Tensor:
    """Inverse hyperbolic tangent."""
    return torch.atanh(x)
