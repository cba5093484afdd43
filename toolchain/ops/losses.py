"""Losses of classification, as training graphs carry them."""

import torch
import torch.nn.functional as F  # noqa: N812 - the name the whole field uses
from torch import Tensor

from toolchain.ops.registry import op


def _loss(scores: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int | None, reduction: str) -> Tensor:
    """Return the negative of each target's log-probability ``scores``, weighted and reduced."""
    target = target.long()
    counted = torch.ones_like(target, dtype=torch.bool) if ignore_index is None else target != ignore_index
    classes = torch.where(counted, target, 0)
    loss = -scores.gather(1, classes[:, None])[:, 0]
    shares = counted.to(scores.dtype) if weight is None else torch.where(counted, weight[classes], 0)
    loss = torch.where(counted, loss, 0) * shares
    if reduction == "none":
        return loss
    return loss.sum() if reduction == "sum" else loss.sum() / shares.sum()


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
