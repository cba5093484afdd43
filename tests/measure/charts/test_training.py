import pytest
from drawing import has_table, parsed, texts

from toolchain.measure.charts.training import Progress, progress_chart, training_charts

RESIDUALS = Progress("residuals", "Residuals", {"primal": "after", "dual": "before"})
PRIMAL = Progress("residuals", "Residuals", {"primal": "after"})
LOSS = Progress("loss", "Loss", {"loss": "after"})
SHARE = Progress("share", "Share", {"share": "after"}, share=True)


def test_every_logged_figure_has_a_chart_with_its_table(report):
    charts = training_charts(report["convergence"])

    assert [chart.title for chart in charts] == ["Residuals", "Kept weights", "Accuracy", "Training loss"]
    for chart in charts:
        parsed(chart)
        assert has_table(chart)


def test_the_table_has_the_first_and_the_last_step_of_every_phase(report):
    chart = progress_chart(report["convergence"], RESIDUALS)

    assert chart.columns == ("Phase", "Step", "primal", "dual")
    steps = {(row[0], row[1]) for row in chart.rows}
    assert {("prune", "0"), ("prune", "9"), ("quantize", "9"), ("quantize", "18")} <= steps


def test_a_phase_without_a_figure_leaves_a_gap():
    log = [{"phase": "a", "step": 0, "primal": 1.0}, {"phase": "a", "step": 10, "primal": 0.1}]
    log += [{"phase": "b", "step": 0, "loss": 1.0}, {"phase": "b", "step": 10, "loss": 0.5}]
    log += [{"phase": "c", "step": 0, "primal": 1.0}, {"phase": "c", "step": 10, "primal": 0.1}]

    root = parsed(progress_chart(log, PRIMAL))

    tag = "{http://www.w3.org/2000/svg}" if root.tag.startswith("{") else ""
    assert len(root.findall(f"{tag}path")) == 2


def test_phases_are_numbered_where_there_are_several():
    log = [{"phase": phase, "step": step, "loss": 1.0 + step} for phase in "ab" for step in range(5)]

    numbers = texts(progress_chart(log, LOSS))

    assert numbers.count("1") >= 1
    assert numbers.count("2") >= 1


def test_shares_are_drawn_in_percent_by_what_is_missing_to_all():
    log = [{"phase": "a", "step": step, "share": value} for step, value in enumerate((0.0, 0.9, 0.99))]

    chart = progress_chart(log, SHARE)

    assert "0 % at first, 99 % at the end" in parsed(chart).find("desc").text
    first, middle, last = (
        float(point.split(",")[1]) for point in str(chart.drawing).split('path d="M')[1].split('"')[0].split(" L")
    )
    assert first > middle > last
    assert middle == pytest.approx((first + last) / 2, abs=0.01)


def test_a_share_that_never_moves_still_has_an_axis():
    for value in (0.0, 0.4, 1.0):
        log = [{"phase": "a", "step": step, "share": value} for step in range(3)]
        parsed(progress_chart(log, SHARE))


@pytest.mark.parametrize(
    "log", [[], [{"phase": "a", "step": 0, "primal": 1.0}], [{"phase": "a", "step": step} for step in range(5)]]
)
def test_what_was_not_logged_has_no_chart(log):
    assert progress_chart(log, PRIMAL) is None


def test_values_that_a_logarithm_has_no_place_for_are_left_out():
    log = [{"phase": "a", "step": step, "primal": value} for step, value in enumerate((0.0, None, 1.0, 0.5, 0.25))]

    root = parsed(progress_chart(log, PRIMAL))

    assert "1 at first, 0.25 at the end" in root.find("desc").text


def test_ten_thousand_entries_make_a_short_path():
    log = [{"phase": "a", "step": step, "primal": 1 / (1 + step)} for step in range(10_000)]

    chart = progress_chart(log, PRIMAL)

    assert len(str(chart.drawing)) < 20_000
    assert len(chart.rows) < 50
