import pytest
from drawing import has_table, parsed, texts

from toolchain.measure.charts.latency import MOST_LAYERS, cost_chart, latency_chart, layers_chart


@pytest.fixture
def row(report):
    return report["latency"][0]


def test_both_distributions_are_drawn_with_their_medians(row):
    chart = latency_chart(row, "latency-0")

    assert len(parsed(chart).findall("path")) == 2
    assert [cells[0] for cells in chart.rows] == ["original", "compressed"]
    assert has_table(chart)


def test_latencies_far_apart_are_drawn_logarithmically(row):
    row["original"] |= {"p50_ms": 100.0, "p90_ms": 110.0, "p99_ms": 120.0, "quantiles_ms": [90.0, 100.0, 110.0]}
    row["compressed"] |= {"p50_ms": 1.0, "p90_ms": 1.1, "p99_ms": 1.2, "quantiles_ms": [0.9, 1.0, 1.1]}

    assert "milliseconds per run, logarithmic" in texts(latency_chart(row, "latency-0"))


def test_equal_latencies_still_have_an_axis(row):
    for side in ("original", "compressed"):
        row[side] |= {"p50_ms": 1.0, "p90_ms": 1.0, "p99_ms": 1.0, "quantiles_ms": [1.0, 1.0]}

    parsed(latency_chart(row, "latency-0"))


def test_memory_is_drawn_where_it_was_measured(row):
    row.pop("memory", None)
    assert [cells[0] for cells in cost_chart(row, "cost-0").rows] == ["time to load"]

    row["memory"] = {side: {"load_bytes": 2_000_000, "peak_bytes": None} for side in ("original", "compressed")}
    chart = cost_chart(row, "cost-0")

    assert chart.rows[1] == ("memory once loaded", "2.00 MB", "2.00 MB")
    assert len(chart.rows) == 2
    assert has_table(chart)


def test_memory_of_nothing_still_has_a_chart(row):
    row["memory"] = {side: {"load_bytes": 0, "peak_bytes": 0} for side in ("original", "compressed")}

    parsed(cost_chart(row, "cost-0"))


def test_layers_stand_from_the_slowest_on_and_one_that_is_gone_has_no_bar():
    layers = [
        {"name": "a", "op": "Conv", "original_ms": 1.0, "compressed_ms": 0.5},
        {"name": "b", "op": "Gemm", "original_ms": 3.0, "compressed_ms": None},
        {"name": "c", "op": "Gather", "original_ms": None, "compressed_ms": 0.2},
    ]

    chart = layers_chart(layers, "layers-0")

    assert [cells[0] for cells in chart.rows] == ["b", "a", "c"]
    assert chart.rows[0] == ("b", "Gemm", "3.00 ms", "-")
    assert chart.rows[1] == ("a", "Conv", "1.00 ms", "500 µs")
    assert len(list(parsed(chart).iter("rect"))) == 4


def test_of_many_layers_the_slowest_are_drawn():
    layers = [{"name": str(n), "op": "Conv", "original_ms": n, "compressed_ms": n} for n in range(1, 101)]

    chart = layers_chart(layers, "layers-0")

    assert len(list(parsed(chart).iter("g"))) == MOST_LAYERS
    assert len(chart.rows) == 100
    assert f"The {MOST_LAYERS} slowest of 100" in chart.note


def test_layers_without_a_time_have_no_chart():
    assert layers_chart([], "layers-0") is None
    assert layers_chart([{"name": "a", "op": "Conv", "original_ms": None, "compressed_ms": 0.0}], "layers-0") is None
