import numpy as np
import pytest
import torch

from toolchain.ops.normalization import batch_normalization


def inputs(*per):
    rng = np.random.default_rng(0)
    x = {"x": rng.standard_normal((2, 3, 4, 5)).astype(np.float32)}
    return x | {name: rng.random(per).astype(np.float32) for name in ("scale", "b", "mean", "var")}


@pytest.mark.parametrize("opset", [7, 8])
def test_statistics_per_element_agree(agree, opset):
    agree("BatchNormalization", inputs(3, 4, 5), opset=opset, spatial=0, epsilon=0.01)


@pytest.mark.parametrize("opset", [7, 9, 14, 15])
def test_statistics_per_channel_agree(agree, opset):
    agree("BatchNormalization", inputs(3), opset=opset, epsilon=0.01)


@pytest.mark.parametrize("opset", [14, 15])
def test_a_graph_in_training_mode_gives_the_updated_statistics(agree, opset):
    agree("BatchNormalization", inputs(3), outputs=3, opset=opset, training_mode=1, momentum=0.7, atol=1e-5)


def test_statistics_per_element_are_updated_while_the_module_trains():
    x, scale, b, mean, var = (torch.from_numpy(value) for value in inputs(3, 4, 5).values())
    batch = 0.9 * mean + 0.1 * x.mean(0)
    got = batch_normalization(x, scale, b, mean, var, spatial=0, training=True)
    wanted = (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt() * scale + b
    torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(mean, batch)


@pytest.mark.parametrize("keys", [{"spatial": 0}, {"training_mode": 1}])
def test_gradients_are_those_of_small_differences(keys):
    generator = torch.Generator().manual_seed(0)
    per = (3, 4) if "spatial" in keys else (3,)
    x = torch.randn(3, 3, 4, dtype=torch.float64, generator=generator).requires_grad_()
    scale, b, mean, var = (torch.rand(per, dtype=torch.float64, generator=generator) for _ in range(4))
    weights = [x, scale.requires_grad_(), b.requires_grad_()]
    assert torch.autograd.gradcheck(lambda *values: batch_normalization(*values, mean, var, **keys), weights)
