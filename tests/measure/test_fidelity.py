import numpy as np
import pytest

from toolchain.measure.fidelity import Closeness


def test_streamed_sums_equal_those_of_the_whole():
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 30, 5)).astype(np.float32)
    sums = Closeness()
    for part in range(0, 30, 7):
        sums.add(first[part : part + 7], second[part : part + 7])

    result = sums.result()

    assert result["relative_l2"] == pytest.approx(np.linalg.norm(second - first) / np.linalg.norm(first), rel=1e-5)
    assert result["cosine"] == pytest.approx(
        (first * second).sum() / np.linalg.norm(first) / np.linalg.norm(second), rel=1e-4
    )
    assert result["max_abs_error"] == pytest.approx(np.abs(second - first).max())


def test_equal_outputs_have_no_distance():
    sums = Closeness()
    sums.add(np.ones((2, 3)), np.ones((2, 3)))

    assert sums.result() == {"relative_l2": 0.0, "cosine": 1.0, "max_abs_error": 0.0}


def test_an_original_of_zeros_has_no_relative_error():
    sums = Closeness()
    sums.add(np.zeros((2, 3)), np.ones((2, 3)))

    assert (sums.result()["relative_l2"], sums.result()["cosine"]) == (None, None)


def test_values_that_are_not_finite_are_counted_where_they_differ_and_left_out_of_the_sums():
    sums = Closeness()
    sums.add(np.array([1.0, np.inf, -np.inf, np.nan]), np.array([2.0, np.nan, -np.inf, np.nan]))

    result = sums.result()

    assert result["max_abs_error"] == 1.0
    assert result["nonfinite_changed"] == 1


def test_outputs_whose_shape_depends_on_the_data_are_counted():
    sums = Closeness()
    sums.add(np.ones((2, 3)), np.ones((1, 3)))

    assert sums.result()["shape_changed"] == 1
