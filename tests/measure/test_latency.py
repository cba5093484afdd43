import numpy as np
import pytest

from calibration.dataset import Batch
from toolchain.errors import ExportError
from toolchain.measure.latency import bootstrap_speedup, measure_latency, summarize

BATCH = Batch({"x": np.zeros((3, 6), np.float32)}, None)


def test_the_row_of_the_cpu_holds_ordered_percentiles_an_interval_and_load_times(make_models):
    (row,) = measure_latency(*make_models(), BATCH, threads=1, seconds=0.2)

    assert row["provider"] == "CPUExecutionProvider"
    assert (row["threads"], row["batch"]) == (1, 3)
    for side in ("original", "compressed"):
        figures = row[side]
        assert 0 < figures["p50_ms"] <= figures["p90_ms"] <= figures["p99_ms"]
        assert 1 <= len(figures["quantiles_ms"]) <= 200
        assert figures["quantiles_ms"] == sorted(figures["quantiles_ms"])
        assert row["load_ms"][side] > 0
    low, high = row["speedup_ci95"]
    assert 0 < low <= high
    assert row["original"]["runs"] == row["compressed"]["runs"] > 0
    assert row["speedup"] == pytest.approx(row["original"]["p50_ms"] / row["compressed"]["p50_ms"])


def test_a_provider_that_does_not_start_has_its_error_in_its_row(make_models):
    (row,) = measure_latency(*make_models(), BATCH, threads=1, seconds=0.1, providers=["NoSuchExecutionProvider"])

    assert "does not offer NoSuchExecutionProvider" in row["error"]
    assert "speedup" not in row


def test_feeds_that_do_not_fit_are_an_error_with_their_shapes(make_models):
    with pytest.raises(ExportError, match=r"x\[2, 5\]"):
        measure_latency(*make_models(), Batch({"x": np.zeros((2, 5), np.float32)}, None), threads=1, seconds=0.1)


def test_a_short_series_keeps_every_run_as_a_quantile():
    figures = summarize(np.array([3.0, 1.0, 2.0]))

    assert figures["p50_ms"] == 2.0
    assert figures["runs"] == len(figures["quantiles_ms"]) == 3


def test_the_interval_covers_a_true_speedup_and_is_narrow_for_clean_times():
    rng = np.random.default_rng(0)
    rounds = [np.stack([2 + 0.1 * rng.random(300), 1 + 0.05 * rng.random(300)], axis=1) for _ in range(4)]

    low, high = bootstrap_speedup(rounds, np.random.default_rng(0))

    assert low < 2.0 < high
    assert high - low < 0.05


def test_the_interval_of_equal_files_includes_one_although_their_sessions_differ():
    rng = np.random.default_rng(0)
    offsets = (0.99, 1.01, 1.0, 0.995, 1.005, 1.012)
    rounds = [
        np.stack([np.full(200, 1.0), np.full(200, offset)], axis=1) + 1e-4 * rng.random((200, 2)) for offset in offsets
    ]

    low, high = bootstrap_speedup(rounds, np.random.default_rng(0))

    assert low < 1 < high


def test_the_bootstrap_is_reproducible():
    rounds = [np.random.default_rng(3).random((50, 2)) + 1]

    first, second = (bootstrap_speedup(rounds, np.random.default_rng(7)) for _ in range(2))

    assert first == second
