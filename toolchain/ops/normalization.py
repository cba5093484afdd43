"""Normalisation and softmax."""

import torch.nn.functional as F  # noqa: N812 - the name the whole field uses
from torch import Tensor

from toolchain.ops.registry import op


@op("BatchNormalization", since=7)
def batch_normalization(
    x: Tensor,
    scale: Tensor,
    b: Tensor,
    mean: Tensor,
    var: Tensor,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    spatial: int = 1,
    training_mode: int = 0,
    training: bool = False,
) -> Tensor:
    """Normalise per channel; while the module trains, by batch statistics, updating ``mean`` and ``var`` in place."""
    # ONNX weighs the running value by momentum, torch weighs the batch.
    return F.batch_norm(x, mean, var, scale, b, training, 1 - momentum, epsilon)
