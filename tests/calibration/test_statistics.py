import numpy as np
import pytest
import torch

from calibration.statistics import match_scale, match_statistics, mismatch, stored_statistics
from toolchain.module import OnnxModule

NORMALISED = "y = BatchNormalization(x, one, zero, mean, variance)"


def build(graph_of, text):
    graph = graph_of(
        text,
        one=np.ones(2, np.float32),
        zero=np.zeros(2, np.float32),
        mean=np.array([3, -1], np.float32),
        variance=np.array([4, 0.25], np.float32),
    )
    return OnnxModule(graph).eval()


@pytest.fixture
def module(graph_of):
    """One BatchNormalization on the input itself, so that what it stores is known of the data."""
    return build(graph_of, f"g (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y) {{ {NORMALISED} }}")


def test_what_the_nodes_store_is_found(module):
    (stored,) = stored_statistics(module)
    assert stored.value == "x"
    assert stored.mean.tolist() == [3, -1]
    assert stored.variance.tolist() == [4, 0.25]


def test_inputs_of_the_stored_statistics_do_not_deviate(module):
    white = torch.randn((2000, 2, 4, 4), generator=torch.Generator().manual_seed(0))
    fitting = white * torch.tensor([2, 0.5]).reshape(2, 1, 1) + torch.tensor([3.0, -1.0]).reshape(2, 1, 1)
    stored = stored_statistics(module)
    assert mismatch(module, stored, {"x": fitting}).item() < 1e-3
    # (9 + 1) / 4 and (1 + 0.25) / 0.25, averaged over both channels
    assert mismatch(module, stored, {"x": white}).item() == pytest.approx((10 / 4 + 1.25 / 0.25) / 2, rel=0.02)


def test_matching_takes_inputs_to_the_stored_statistics(module):
    stored = stored_statistics(module)
    inputs = {"x": torch.randn((64, 2, 4, 4), generator=torch.Generator().manual_seed(0))}
    before = mismatch(module, stored, inputs).item()
    match_statistics(module, stored, inputs, ("x",), steps=40)
    assert mismatch(module, stored, inputs).item() < 0.02 * before
    assert not inputs["x"].requires_grad


def test_gain_and_offset_take_unit_noise_to_a_range_of_bytes(graph_of):
    graph = graph_of(
        "g (float[N, 1, 4, 4] x) => (float[N, 1, 4, 4] y) { y = BatchNormalization(x, one, zero, mean, variance) }",
        one=np.ones(1, np.float32),
        zero=np.zeros(1, np.float32),
        mean=np.array([120], np.float32),
        variance=np.array([60**2], np.float32),
    )
    module = OnnxModule(graph).eval()
    noise = torch.randn((64, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    gain, offset = match_scale(module, stored_statistics(module), {"x": noise}, {"x": (1, 1, 1, 1)}, steps=60)["x"]
    scaled = noise * gain + offset
    assert scaled.mean().item() == pytest.approx(120, abs=10)
    assert scaled.std().item() == pytest.approx(60, abs=10)


def test_inputs_that_no_normalisation_sees_stay_as_they_are(graph_of):
    signature = "(float[N, 2, 4, 4] x, float[N] other) => (float[N, 2, 4, 4] y, float[N] z)"
    module = build(graph_of, f"g {signature} {{ {NORMALISED} z = Neg(other) }}")
    inputs = {"x": torch.ones((2, 2, 4, 4)), "other": torch.tensor([1.0, 2.0])}
    match_statistics(module, stored_statistics(module), inputs, ("x", "other"), steps=2)
    assert inputs["other"].tolist() == [1, 2]


def test_a_constant_channel_gives_finite_gradients(module):
    inputs = {"x": torch.zeros((8, 2, 4, 4))}
    match_statistics(module, stored_statistics(module), inputs, ("x",), steps=3)
    assert bool(torch.isfinite(inputs["x"]).all())
