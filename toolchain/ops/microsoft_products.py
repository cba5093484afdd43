"""Matrix products and convolutions into which ONNX Runtime fuses what comes before or after them (com.microsoft)."""

from collections.abc import Callable

import torch
from torch import Tensor

from toolchain.graph import Node
from toolchain.ops import activation as act
from toolchain.ops.convolution import conv
from toolchain.ops.linear import gemm
from toolchain.ops.registry import op
from toolchain.ops.trigonometry import tanh

DOMAIN = "com.microsoft"

# By ONNX name: what is called on the product, and which attributes it takes, in the order of ``activation_params``.
ACTIVATIONS: dict[str, tuple[Callable[..., Tensor], tuple[str, ...]]] = {
    "": (lambda x: x, ()),
    "Clip": (act.clip_attributes, ("min", "max")),
    "Elu": (act.elu, ("alpha",)),
    "HardSigmoid": (act.hard_sigmoid, ("alpha", "beta")),
    "LeakyRelu": (act.leaky_relu, ("alpha",)),
    "Relu": (act.relu, ()),
    "Selu": (act.selu, ("alpha", "gamma")),
    "Sigmoid": (act.sigmoid, ()),
    "Softplus": (act.softplus, ()),
    "Softsign": (act.softsign, ()),
    "Tanh": (tanh, ()),
    "ThresholdedRelu": (act.thresholded_relu, ("alpha",)),
}


def _refuse_unknown_activation(node: Node) -> str:
    name = node.attributes.get("activation", "")
    if name not in ACTIVATIONS:
        return f"activation {name!r} is not known"
    names = ACTIVATIONS[str(name)][1]
    given = node.attributes.get("activation_params")
    if node.op == "FusedConv" and names and (not isinstance(given, list) or len(given) != len(names)):
        return f"activation {name!r} needs {len(names)} activation_params"
    return ""


def _activated(y: Tensor, activation: str, values: list[float | None]) -> Tensor:
    """Return ``y`` through an activation; values that are None keep the activation's defaults."""
    function, names = ACTIVATIONS[activation]
    return function(y, **{name: value for name, value in zip(names, values, strict=True) if value is not None})


@op("FusedConv", domain=DOMAIN, trainable=(1, 2), refuses=_refuse_unknown_activation)
def fused_conv(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    z: Tensor | None = None,
    *,
    activation: str = "",
    activation_params: list[float] | None = None,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Convolution, to which ``z`` is added before the activation."""
    y = conv(x, w, b, auto_pad=auto_pad, dilations=dilations, group=group, pads=pads, strides=strides)
    return _activated(y if z is None else y + z, activation, list(activation_params or []))


@op("FusedGemm", domain=DOMAIN, trainable=(0, 1, 2), refuses=_refuse_unknown_activation)
def fused_gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    activation: str = "",
    activation_alpha: float | None = None,
    activation_beta: float | None = None,
    activation_gamma: float | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803 - the attribute's ONNX name
    transB: int = 0,  # noqa: N803 - the attribute's ONNX name
) -> Tensor:
    """Gemm, then the activation."""
    values = {"alpha": activation_alpha, "beta": activation_beta, "gamma": activation_gamma}
    y = gemm(a, b, c, alpha=alpha, beta=beta, transA=transA, transB=transB)
    return _activated(y, activation, [values[name] for name in ACTIVATIONS[activation][1]])


@op("FusedMatMul", domain=DOMAIN, trainable=(0, 1))
@op("TransposeMatMul", domain=DOMAIN, trainable=(0, 1))
def fused_matmul(
    a: Tensor,
    b: Tensor,
    *,
    alpha: float = 1.0,
    transA: int = 0,  # noqa: N803 - the attribute's ONNX name
    transB: int = 0,  # noqa: N803 - the attribute's ONNX name
    transBatchA: int = 0,  # noqa: N803 - the attribute's ONNX name
    transBatchB: int = 0,  # noqa: N803 - the attribute's ONNX name
) -> Tensor:
    """``alpha`` times the product of matrices; a vector has nothing to transpose."""
    y = torch.matmul(_laid_out(a, transA, transBatchA), _laid_out(b, transB, transBatchB))
    return y if alpha == 1.0 else y * alpha


def _laid_out(x: Tensor, transposed: int, batch_inside: int) -> Tensor:
    """Return ``[.., rows, columns]`` from a factor whose first dimension belongs inside, or that is transposed."""
    if x.ndim < 2:
        return x
    x = x.movedim(0, -2) if batch_inside else x
    return x.mT if transposed else x
