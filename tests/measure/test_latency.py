import numpy as np
import pytest

from calibration.dataset import Batch
from toolchain.errors import ExportError
from toolchain.measure.latency import measure_latency

BATCH = Batch({"x": np.zeros((3, 6), np.float32)}, None)


def test_the_row_of_the_cpu_holds_ordered_percentiles_an_interval_and_load_times(make_models):
    (row,) = measure_latency(*make_models(), BATCH, threads=1, seconds=0.2)

    assert (row["provider"], row["host"]) == ("CPUExecutionProvider", "this machine")
    assert (row["threads"], row["batch"]) == (1, 3)
    for side in ("original", "compressed"):
        figures = row[side]
        assert 0 < figures["p50_ms"] <= figures["p90_ms"] <= figures["p99_ms"]
        assert 1 <= len(figures["quantiles_ms"]) <= 200
        assert figures["quantiles_ms"] == sorted(figures["quantiles_ms"])
        assert figures["throughput_per_s"] == pytest.approx(3e3 / figures["mean_ms"])
        assert row["load_ms"][side] > 0
        assert row["memory"][side]["peak_bytes"] >= row["memory"][side]["load_bytes"] > 0
    low, high = row["speedup_ci95"]
    assert 0 < low <= high
    assert row["original"]["runs"] == row["compressed"]["runs"] > 0
    assert row["speedup"] == pytest.approx(row["original"]["p50_ms"] / row["compressed"]["p50_ms"])
    assert row["noisy"] == bool(row["noise"])
    assert [layer["op"] for layer in row["layers"]] == ["FusedGemm", "Gemm"]
    assert all(layer["original_ms"] > 0 and layer["compressed_ms"] > 0 for layer in row["layers"])


def test_a_provider_that_does_not_start_has_its_error_in_its_row(make_models):
    (row,) = measure_latency(*make_models(), BATCH, threads=1, seconds=0.1, providers=["NoSuchExecutionProvider"])

    assert "does not offer NoSuchExecutionProvider" in row["error"]
    assert "speedup" not in row


def test_feeds_that_do_not_fit_are_an_error_with_their_shapes(make_models):
    with pytest.raises(ExportError, match=r"cannot run original\.onnx on cpu.*x\[2, 5\]"):
        measure_latency(*make_models(), Batch({"x": np.zeros((2, 5), np.float32)}, None), threads=1, seconds=0.1)
