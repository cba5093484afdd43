"""Losses of classification, as training graphs carry them."""

import torch
import torch.nn.functional as F  # noqa: N812 - the name the whole field uses
from torch import Tensor

from toolchain.ops.registry import op

# torch insists on an index to ignore; no class has this one.
NO_INDEX = torch.iinfo(torch.int64).min


def _loss(scores: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int | None, reduction: str) -> Tensor:
    """Return the negative of each target's log-probability ``scores``, reduced."""
    ignored = NO_INDEX if ignore_index is None else ignore_index
    # torch takes [N, C], [N, C, d] and images; any number of dimensions is the same to it in a row.
    flat = F.nll_loss(
        scores.flatten(2) if scores.ndim > 2 else scores,
        (target.flatten(1) if target.ndim > 1 else target).long(),
        weight,
        ignore_index=ignored,
        reduction=reduction,
    )
    return flat.reshape(target.shape) if reduction == "none" else flat


@op("NegativeLogLikelihoodLoss", since=12)
def negative_log_likelihood_loss(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Minus the log-probability ``x[n, c, ...]`` of each target class c, weighted by class, averaged by weight."""
    return _loss(x, target, weight, ignore_index, reduction)


@op("SoftmaxCrossEntropyLoss", since=12)
def softmax_cross_entropy_loss(
    scores: Tensor,
    labels: Tensor,
    weights: Tensor | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> tuple[Tensor, ...]:
    """The negative log-likelihood of the softmax of ``scores`` over axis 1, and its logarithm."""
    chances = F.log_softmax(scores, 1)
    return _loss(chances, labels, weights, ignore_index, reduction), chances
