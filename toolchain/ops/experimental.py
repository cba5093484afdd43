"""Operators that ONNX tried out and withdrew before opset 10, which ONNX Runtime still runs and old files still hold.

Source: onnx 1.2, operator schemas marked experimental; ONNX Runtime's ``contrib_ops``.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - the name the whole field uses
from torch import Tensor

from toolchain.graph import Node
from toolchain.ops.registry import op


@op("Affine")
def affine(x: Tensor, *, alpha: float, beta: float) -> Tensor:
    """``alpha * x + beta``."""
    return alpha * x + beta


def _without_scale(node: Node) -> str:
    return "scale cuts out of the middle by a rule of its own" if "scale" in node.attributes else ""


@op("Crop", refuses=_without_scale)
def crop(x: Tensor, *, border: list[int]) -> Tensor:
    """Images without their borders of left, top, right and bottom."""
    left, top, right, bottom = border
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


@op("ImageScaler")
def image_scaler(x: Tensor, *, bias: list[float], scale: float = 1.0) -> Tensor:
    """``scale * x`` plus the bias of every channel."""
    return scale * x + torch.tensor(bias, dtype=x.dtype, device=x.device).reshape(-1, 1, 1)


@op("ParametricSoftplus")
def parametric_softplus(x: Tensor, *, alpha: float, beta: float) -> Tensor:
    """``alpha * log(exp(beta * x) + 1)``."""
    return alpha * F.softplus(beta * x)


@op("Scale")
def scale_by(x: Tensor, *, scale: float) -> Tensor:
    """``scale * x``."""
    return scale * x


@op("ScaledTanh")
def scaled_tanh(x: Tensor, *, alpha: float, beta: float) -> Tensor:
    """``alpha * tanh(beta * x)``."""
    return alpha * torch.tanh(beta * x)
