import numpy as np
import pytest

from toolchain.measure.histogram import BINS, histogram


def test_every_value_but_exact_zeros_is_counted_on_both_sides():
    rng = np.random.default_rng(0)
    before = rng.standard_normal((20, 30)).astype(np.float32)
    after = np.where(np.abs(before) > 1, before, 0)

    found = histogram(before, after)

    assert len(found["edges"]) == BINS + 1
    assert found["edges"] == sorted(found["edges"])
    assert found["edges"][0] == pytest.approx(before.min())
    assert found["edges"][-1] == pytest.approx(before.max())
    assert sum(found["original"]) == 600
    assert sum(found["compressed"]) == np.count_nonzero(after)


def test_values_beyond_the_originals_widen_the_bins_for_both():
    found = histogram(np.array([-1.0, 1.0]), np.array([-1.0, 3.0]))

    assert (found["edges"][0], found["edges"][-1]) == (-1.0, 3.0)
    assert (sum(found["original"]), sum(found["compressed"])) == (2, 2)


def test_a_single_value_has_a_bin_around_it():
    found = histogram(np.full(4, 0.5), np.full(4, 0.5))

    assert (sum(found["original"]), sum(found["compressed"])) == (4, 4)
    assert found["edges"][0] < 0.5 < found["edges"][-1]


def test_a_side_without_values_has_empty_bins():
    assert sum(histogram(np.ones(3), np.zeros(3))["compressed"]) == 0
    assert sum(histogram(np.ones(3), np.empty((0, 2)))["compressed"]) == 0


def test_nothing_but_zeros_and_values_that_are_not_finite_has_no_histogram():
    assert histogram(np.zeros(3), np.array([np.nan, np.inf, 0.0])) is None
