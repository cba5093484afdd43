"""Losses: their gradients, and versions and targets that no official case has."""

import numpy as np
import pytest
import torch

from toolchain.ops.losses import negative_log_likelihood_loss, softmax_cross_entropy_loss

SHAPES = [(3, 5), (2, 5, 4), (2, 5, 3, 2), (2, 3, 2, 2, 2, 2)]


def targets(shape, kind="int64"):
    return np.random.default_rng(0).integers(0, shape[1], (shape[0], *shape[2:])).astype(kind)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("weighted", [False, True])
def test_losses_agree_with_targets_of_int32_and_ignored_ones(agree, shape, reduction, weighted):
    rng = np.random.default_rng(1)
    x, target = rng.standard_normal(shape).astype(np.float32), targets(shape, "int32")
    target.flat[0] = 77
    inputs = {"x": x, "t": target, "w": rng.random(shape[1]).astype(np.float32) if weighted else None}
    agree("NegativeLogLikelihoodLoss", inputs, reduction=reduction, ignore_index=77)
    agree("SoftmaxCrossEntropyLoss", inputs, reduction=reduction, ignore_index=77, outputs=2)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_losses_pass_their_gradient_to_scores_and_weights(reduction):
    shape = (2, 3, 4)
    target = torch.from_numpy(targets(shape))
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weight = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64, requires_grad=True)
    for loss in (negative_log_likelihood_loss, softmax_cross_entropy_loss):
        assert torch.autograd.gradcheck(
            lambda scores, shares, loss=loss: loss(scores, target, shares, ignore_index=1, reduction=reduction),
            (x, weight),
        )
