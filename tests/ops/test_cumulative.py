"""CumProd against ONNX Runtime and its gradients."""

import numpy as np
import pytest
import torch

from toolchain.ops.cumulative import cum_prod

X = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)


@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_running_product_agrees(agree, axis, exclusive, reverse):
    agree("CumProd", {"x": X, "axis": np.array(axis)}, opset=26, exclusive=exclusive, reverse=reverse)


@pytest.mark.parametrize("exclusive", [0, 1])
def test_gradients_are_right_also_at_zero(exclusive):
    x = torch.from_numpy(X).double()
    x[0, 1, 2] = 0
    assert torch.autograd.gradcheck(lambda x: cum_prod(x, [-1], exclusive=exclusive, reverse=1), x.requires_grad_())


def test_unsigned_products_wrap_around():
    x = torch.tensor([70000, 70000], dtype=torch.uint32)
    assert cum_prod(x, [0]).tolist() == [70000, 70000**2 % 2**32]
