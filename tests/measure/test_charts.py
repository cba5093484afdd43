import xml.etree.ElementTree as ET

import pytest

from toolchain.measure import charts


def parsed(markup):
    return ET.fromstring(str(markup))


def test_every_chart_is_well_formed_and_has_a_title_and_a_description(report):
    tensors = report["weights"]["tensors"]
    drawn = [
        charts.bytes_chart(report["size"]),
        charts.kept_chart(tensors),
        charts.bits_chart(tensors),
        charts.latency_chart(report["latency"][0], "latency-0"),
        charts.progress_chart(report["convergence"], {"primal": "after", "dual": "before"}, "residuals", "Residuals"),
    ]

    for chart in drawn:
        root = parsed(chart)
        assert root.attrib["role"] == "img"
        ids = {element.attrib["id"] for element in root if "id" in element.attrib}
        assert set(root.attrib["aria-labelledby"].split()) == ids
        assert all(root.find(name).text for name in ("title", "desc"))


def test_of_many_tensors_only_the_largest_are_drawn_in_their_order():
    tensors = [{"name": f"t{size}", "size": size} for size in range(1, 101)]

    shown = charts.largest(tensors)

    assert [tensor["size"] for tensor in shown] == list(range(101 - charts.LARGEST, 101))


def test_a_tensor_without_a_kept_weight_has_no_dot_for_them(report):
    tensor = report["weights"]["tensors"][0] | {"nonzero": 0}

    assert str(charts.kept_chart([tensor])).count("<circle") == 1


def test_latencies_far_apart_are_drawn_logarithmically(report):
    row = report["latency"][0]
    row["original"] |= {"p50_ms": 100.0, "p90_ms": 110.0, "p99_ms": 120.0, "quantiles_ms": [90.0, 100.0, 110.0]}
    row["compressed"] |= {"p50_ms": 1.0, "p90_ms": 1.1, "p99_ms": 1.2, "quantiles_ms": [0.9, 1.0, 1.1]}

    assert "logarithmic" in charts.latency_chart(row, "latency-0")


def test_equal_latencies_still_have_an_axis(report):
    row = report["latency"][0]
    for side in ("original", "compressed"):
        row[side] |= {"p50_ms": 1.0, "p90_ms": 1.0, "p99_ms": 1.0, "quantiles_ms": [1.0, 1.0]}

    parsed(charts.latency_chart(row, "latency-0"))


def test_a_phase_without_a_figure_leaves_a_gap():
    log = [{"phase": "a", "step": 0, "primal": 1.0}, {"phase": "a", "step": 10, "primal": 0.1}]
    log += [{"phase": "b", "step": 0, "loss": 1.0}, {"phase": "b", "step": 10, "loss": 0.5}]
    log += [{"phase": "c", "step": 0, "primal": 1.0}, {"phase": "c", "step": 10, "primal": 0.1}]

    root = parsed(charts.progress_chart(log, {"primal": "after"}, "residuals", "Residuals"))

    tag = "{http://www.w3.org/2000/svg}" if root.tag.startswith("{") else ""
    assert len(root.findall(f"{tag}path")) == 2


def test_phases_are_numbered_where_there_are_several():
    log = [{"phase": phase, "step": step, "loss": 1.0 + step} for phase in "ab" for step in range(5)]

    numbers = [element.text for element in parsed(charts.progress_chart(log, {"loss": "after"}, "loss", "Loss"))]

    assert numbers.count("1") >= 1
    assert numbers.count("2") >= 1


def test_shares_are_drawn_in_percent_by_what_is_missing_to_all():
    log = [{"phase": "a", "step": step, "share": value} for step, value in enumerate((0.0, 0.9, 0.99))]

    chart = charts.progress_chart(log, {"share": "after"}, "share", "Share", share=True)

    assert "0 % at first, 99 % at the end" in parsed(chart).find("desc").text
    first, middle, last = (
        float(point.split(",")[1]) for point in str(chart).split('path d="M')[1].split('"')[0].split(" L")
    )
    assert first > middle > last
    assert middle == pytest.approx((first + last) / 2, abs=0.01)


def test_a_share_that_never_moves_still_has_an_axis():
    for value in (0.0, 0.4, 1.0):
        log = [{"phase": "a", "step": step, "share": value} for step in range(3)]
        parsed(charts.progress_chart(log, {"share": "after"}, "share", "Share", share=True))


@pytest.mark.parametrize(
    "log", [[], [{"phase": "a", "step": 0, "primal": 1.0}], [{"phase": "a", "step": step} for step in range(5)]]
)
def test_what_was_not_logged_has_no_chart(log):
    assert charts.progress_chart(log, {"primal": "after"}, "residuals", "Residuals") is None


def test_values_that_a_logarithm_has_no_place_for_are_left_out():
    log = [{"phase": "a", "step": step, "primal": value} for step, value in enumerate((0.0, None, 1.0, 0.5, 0.25))]

    root = parsed(charts.progress_chart(log, {"primal": "after"}, "residuals", "Residuals"))

    assert "1 at first, 0.25 at the end" in root.find("desc").text


def test_ten_thousand_entries_make_a_short_path():
    log = [{"phase": "a", "step": step, "primal": 1 / (1 + step)} for step in range(10_000)]

    assert len(str(charts.progress_chart(log, {"primal": "after"}, "residuals", "Residuals"))) < 20_000
