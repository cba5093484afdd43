"""TensorScatter against ONNX Runtime and its gradients."""

import numpy as np
import pytest
import torch

from toolchain.ops.cache import tensor_scatter


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("axis", [1, -2])
@pytest.mark.parametrize(("mode", "start"), [("linear", [0, 3]), ("circular", [4, 2]), ("linear", None)])
def test_update_agrees(agree, axis, mode, start):
    cache, update = ((2, 5, 3, 2), (2, 2, 3, 2)) if axis == 1 else ((2, 3, 5, 2), (2, 3, 2, 2))
    inputs = {"c": noise(*cache), "u": noise(*update, seed=1), "i": None if start is None else np.array(start)}
    agree("TensorScatter", inputs, opset=24, axis=axis, mode=mode)


def test_gradients_are_right():
    leaves = [torch.from_numpy(noise(*shape)).double().requires_grad_() for shape in [(2, 4, 2), (2, 3, 2)]]
    start = torch.tensor([3, 1])
    assert torch.autograd.gradcheck(lambda c, u: tensor_scatter(c, u, start, mode="circular"), leaves)


def test_an_update_past_the_end_is_an_error():
    with pytest.raises(RuntimeError, match="out of bounds"):
        tensor_scatter(torch.zeros(1, 4, 2), torch.ones(1, 3, 2), torch.tensor([2]))
