import numpy as np
import pytest

from calibration.collect import Sampling, collect_candidates, collect_grids
from calibration.dataset import Dataset, Preprocessing
from calibration.observers import COMPARED
from toolchain.errors import DataError, RecipeError
from toolchain.module import OnnxModule


@pytest.fixture
def module(graph_of):
    return OnnxModule(
        graph_of(
            "g (float[N, 2] x) => (float[N, 2] y) { h = MatMul(x, w)  y = Relu(h) }",
            w=np.array([[1, 0], [0, -2]], np.float32),
        )
    )


def rows(values):
    return Dataset({"x": np.array(values, np.float32)}, None, Preprocessing(), "unlabelled", "a test")


def test_grids_cover_inputs_inner_values_and_outputs(module):
    grids = collect_grids(module, ["x", "h", "y"], rows([[0, 1], [2, 255]]))
    assert list(grids) == ["x", "h", "y"]
    assert (grids["x"].scale.item(), grids["x"].zero_point) == (1.0, 0)
    assert grids["h"].zero_point == 254  # -510 to 2
    assert grids["y"].scale.item() == pytest.approx(2 / 255)


@pytest.mark.parametrize("observer", ["minmax", "mse", "entropy", "percentile"])
def test_the_batch_size_does_not_change_the_grids(module, observer):
    data = rows(np.random.default_rng(0).standard_normal((50, 2)))
    one, many = (collect_grids(module, ["h"], data, observer, Sampling(size))["h"] for size in (1, 50))
    assert one.scale.item() == pytest.approx(many.scale.item(), rel=1e-5)


def test_the_samples_are_spread_over_data_that_may_be_sorted(module):
    data = rows(np.repeat(np.arange(100.0)[:, None], 2, axis=1))
    grid = collect_grids(module, ["x"], data, sampling=Sampling(samples=2))["x"]
    assert grid.scale.item() == pytest.approx(99 / 255)


def test_the_training_mode_is_put_back(module):
    module.train()
    collect_grids(module, ["h"], rows([[1, 1]]))
    assert module.training
    assert all(weight.grad is None for weight in module.weights().values())


def test_values_that_are_not_finite_are_named(module):
    with pytest.raises(DataError, match="value 'h' of the model is NaN or infinite"):
        collect_grids(module, ["h"], rows([[1, 3e38]]))


def test_an_unknown_observer_comes_with_the_nearest(module):
    with pytest.raises(RecipeError, match="no observer 'minimax'") as caught:
        collect_grids(module, ["h"], rows([[1, 1]]), "minimax")
    assert "minmax" in caught.value.hint


def test_candidates_of_one_run_are_what_each_observer_finds_alone(module):
    data = rows(np.random.default_rng(0).standard_normal((50, 2)))
    found = collect_candidates(module, ["x", "h"], data, Sampling())
    assert list(found) == list(COMPARED)
    for observer, grids in found.items():
        alone = collect_grids(module, ["x", "h"], data, observer)
        for name, grid in grids.items():
            assert (grid.scale.item(), grid.zero_point) == (alone[name].scale.item(), alone[name].zero_point)


def test_no_batch_is_begun_when_the_time_is_over_but_the_first(module):
    told = []
    data = rows(np.repeat(np.arange(100.0)[:, None], 2, axis=1))
    grid = collect_grids(module, ["x"], data, sampling=Sampling(10, seconds=0.0, tell=told.append))["x"]
    assert told == [0.1]
    assert 50 < grid.scale.item() * 255 < 99  # ten of all, not the first ten
