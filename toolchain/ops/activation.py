"""Activation functions."""

import torch
import torch.nn.functional as F  # noqa: N812 - the name the whole field uses
from torch import Tensor

from toolchain.ops.registry import op


@op("Relu", since=6)
def relu(x: Tensor) -> Tensor:
    """max(x, 0)."""
    return torch.relu(x)


@op("LeakyRelu", since=6)
def leaky_relu(x: Tensor, *, alpha: float = 0.01) -> Tensor:
    """X, times ``alpha`` where negative."""
    return F.leaky_relu(x, alpha)


@op("PRelu", since=7, trainable=(1,))
def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """X, times a learned slope where negative; the slope broadcasts as numpy does."""
    return torch.where(x < 0, x * slope, x)


@op("ThresholdedRelu", since=10)
def thresholded_relu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """X where above ``alpha``, else 0."""
    return F.threshold(x, alpha, 0.0)


@op("Elu", since=6)
def elu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """X, ``alpha * (exp(x) - 1)`` where negative."""
    return F.elu(x, alpha)


@op("Celu", since=12)
def celu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """X, ``alpha * (exp(x / alpha) - 1)`` where negative."""
    return F.celu(x, alpha)


@op("Selu", since=6)
def selu(x: Tensor, *, alpha: float = 1.6732632, gamma: float = 1.0507010) -> Tensor:
    """``gamma`` times Elu with ``alpha``."""
    return gamma * F.elu(x, alpha)


@op("Sigmoid", since=6)
def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return torch.sigmoid(x)


@op("HardSigmoid", since=6)
def hard_sigmoid(x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    """``alpha * x + beta``, kept within 0 and 1."""
    return (alpha * x + beta).clamp(0, 1)


@op("HardSwish", since=14)
def hard_swish(x: Tensor) -> Tensor:
    """X times HardSigmoid with alpha 1/6 and beta 1/2."""
    return F.hardswish(x)


@op("Swish", since=24)
def swish(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """``x * sigmoid(alpha * x)``."""
    return F.silu(x) if alpha == 1.0 else x * torch.sigmoid(alpha * x)


@op("QuickGelu", domain="com.microsoft")
def quick_gelu(x: Tensor, *, alpha: float = 1.702) -> Tensor:
    """Swish under the name that ONNX Runtime gives it, with another default."""
    return swish(x, alpha=alpha)


@op("SwiGLU", since=28)
def swiglu(gate: Tensor, x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """``x`` times Swish of the gate."""
    return swish(gate, alpha=alpha) * x


@op("Mish", since=18)
def mish(x: Tensor) -> Tensor:
    """``x * tanh(softplus(x))``."""
    return F.mish(x)


@op("Gelu", since=20)
@op("Gelu", since=1, domain="com.microsoft")
def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    """X times the normal distribution function of x, exactly or by its tanh approximation."""
    return F.gelu(x, approximate=approximate)


@op("Softplus")
def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x))."""
    return F.softplus(x)


@op("Softsign")
def softsign(x: Tensor) -> Tensor:
    """X / (1 + |x|)."""
    return F.softsign(x)


@op("Shrink", since=9)
def shrink(x: Tensor, *, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    """Zero within ``lambd`` of zero, moved towards zero by ``bias`` elsewhere."""
    moved = torch.where(x < -lambd, x + bias, x - bias)
    return torch.where(x.abs() > lambd, moved, torch.zeros_like(x)).to(x.dtype)


@op("Clip", since=6)
def clip_attributes(x: Tensor, *, max: float = 3.4028234663852886e38, min: float = -3.4028234663852886e38) -> Tensor:  # noqa: A002 - ONNX names
    """Keep x within two attributes (before opset 11)."""
    return x.clamp(min, max)


@op("Clip", since=11)
def clip(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Keep x within two optional scalars; the upper one wins where they cross."""
    if low is not None:
        x = torch.maximum(x, low)
    return x if high is None else torch.minimum(x, high)


def _flattened(x: Tensor, axis: int) -> Tensor:
    """Return ``x`` as ``[outer, inner]`` split before ``axis``, the view in which softmax worked before opset 13."""
    return x.flatten(axis % x.ndim).reshape(x.shape[: axis % x.ndim].numel(), -1)


@op("Softmax")
def softmax_flattened(x: Tensor, *, axis: int = 1) -> Tensor:
    """Softmax over all dimensions from ``axis`` on, taken together (before opset 13)."""
    return torch.softmax(_flattened(x, axis), -1).reshape(x.shape)


@op("Softmax", since=13)
def softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """Softmax along ``axis``."""
    return torch.softmax(x, axis)


@op("LogSoftmax")
def log_softmax_flattened(x: Tensor, *, axis: int = 1) -> Tensor:
    """Logarithm of softmax over all dimensions from ``axis`` on (before opset 13)."""
    return torch.log_softmax(_flattened(x, axis), -1).reshape(x.shape)


@op("LogSoftmax", since=13)
def log_softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """Logarithm of softmax along ``axis``."""
    return torch.log_softmax(x, axis)


@op("Hardmax")
def hardmax_flattened(x: Tensor, *, axis: int = 1) -> Tensor:
    """1 at the first maximum over all dimensions from ``axis`` on, else 0 (before opset 13)."""
    return hardmax(_flattened(x, axis), axis=-1).reshape(x.shape)


@op("Hardmax", since=13)
def hardmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """1 at the first maximum along ``axis``, else 0."""
    return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1)
