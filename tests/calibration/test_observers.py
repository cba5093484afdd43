import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from calibration.observers import BINS, OBSERVERS, Histogram, MinMaxObserver, make_grid

FLOATS = npst.arrays(
    np.float32,
    npst.array_shapes(max_dims=2, max_side=20),
    elements=st.floats(-(2.0**60), 2.0**60, width=32, allow_nan=False),
)


def observe(name, *arrays):
    observer = OBSERVERS[name]()
    for array in arrays:
        observer.update(array)
    return observer.grid()


def ends(grid):
    scale = grid.scale.item()
    return scale * (0 - grid.zero_point), scale * (255 - grid.zero_point)


def error(grid, values):
    tensor = torch.from_numpy(values)
    return float((grid.dequantize(grid.quantize(tensor)) - tensor).square().mean())


@pytest.mark.parametrize("name", OBSERVERS)
@given(array=FLOATS)
def test_zero_is_exactly_on_every_grid_of_256_levels(name, array):
    grid = observe(name, array)
    assert grid.levels == tuple(range(256))
    assert 0 <= grid.zero_point <= 255
    assert grid.scale.dtype == torch.float32
    assert grid.scale.item() > 0
    zero = torch.zeros(1)
    assert grid.dequantize(grid.quantize(zero)).item() == 0


@given(array=FLOATS)
def test_minmax_represents_every_value_to_within_half_a_step(array):
    grid = observe("minmax", array)
    values = torch.from_numpy(array)
    off = (grid.dequantize(grid.quantize(values)).double() - values.double()).abs()
    assert off.max().item() <= 0.501 * grid.scale.item()


@pytest.mark.parametrize("name", OBSERVERS)
@given(array=FLOATS, cut=st.integers(0, 20))
def test_pieces_give_the_same_grid_as_everything_at_once(name, array, cut):
    whole, pieces = observe(name, array), observe(name, array[cut:], array[:cut])
    assert whole.zero_point == pieces.zero_point
    assert whole.scale.item() == pieces.scale.item()


@pytest.mark.parametrize("name", OBSERVERS)
@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 1e-30, 1e30, 1e-45])
def test_a_constant_is_represented(name, value):
    constant = np.full(10, value, np.float32)
    grid = observe(name, constant)
    off = (grid.dequantize(grid.quantize(torch.from_numpy(constant))) - torch.from_numpy(constant)).abs().max().item()
    assert off <= max(grid.scale.item(), 1e-37)
    assert off <= 0.01 * abs(value) + 1e-37


@pytest.mark.parametrize("name", OBSERVERS)
def test_nothing_seen_gives_a_grid_with_zero(name):
    for grid in (observe(name), observe(name, np.zeros((0, 3), np.float32))):
        assert grid.scale.item() == 1
        assert grid.zero_point == 0


def test_positive_values_use_all_levels_from_zero_up():
    grid = observe("minmax", np.array([1.0, 255.0], np.float32))
    assert (grid.zero_point, grid.scale.item()) == (0, 1.0)


def test_negative_values_put_zero_at_the_top():
    assert make_grid(-255.0, -1.0).zero_point == 255


def test_percentile_clips_a_lonely_extreme():
    values = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    values[7] = 1000
    low, high = ends(observe("percentile", values))
    assert -5 < low < -3
    assert 3 < high < 5


def test_mse_is_as_good_as_trying_every_range():
    values = np.random.default_rng(0).standard_normal(300_000).astype(np.float32)
    values[7] = 200
    low = float(values.min())
    best = min(error(make_grid(low, high), values) for high in np.linspace(5, 200, 40))
    assert best < 0.8 * error(observe("minmax", values), values)
    assert error(observe("mse", values), values) < 1.02 * best


def test_mse_keeps_the_whole_range_of_evenly_spread_values():
    values = np.linspace(-1, 3, 10_001, dtype=np.float32)
    low, high = ends(observe("mse", values))
    assert abs(low + 1) < 0.05
    assert abs(high - 3) < 0.05


def test_entropy_clips_a_lonely_extreme_and_keeps_the_bulk():
    values = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    values[7] = 40
    low, high = ends(observe("entropy", values))
    assert low < -2.5
    assert 2.5 < high < 20


def test_zeros_of_a_relu_do_not_shrink_the_range():
    values = np.abs(np.random.default_rng(0).standard_normal(100_000)).astype(np.float32)
    padded = np.concatenate([values, np.zeros(900_000, np.float32)])
    for name in OBSERVERS:
        assert observe(name, values).scale.item() == observe(name, padded).scale.item()


def test_memory_does_not_grow_with_what_is_seen():
    histogram = Histogram()
    rng = np.random.default_rng(0)
    for exponent in range(0, 40, 4):
        histogram.update(rng.standard_normal(1000).astype(np.float32) * 2.0**exponent)
    assert histogram.counts.shape == (2 * BINS,)
    assert histogram.counts.sum() == 10_000


def test_a_wider_range_moves_counts_without_losing_any():
    histogram = Histogram()
    histogram.update(np.array([-1.0, 0.5, 0.75], np.float32))
    histogram.update(np.array([1e6], np.float32))
    centres, counts = histogram.filled()
    assert counts.tolist() == [1, 2, 1]
    assert abs(centres[-1] - 1e6) <= 2.0**histogram.exponent


def test_minmax_always_includes_zero():
    observer = MinMaxObserver()
    observer.update(np.array([5.0, 6.0], np.float32))
    assert observer.low == 0
