import itertools
import re

import pytest
from drawing import has_table, parsed, texts

from toolchain.measure.charts.runs import Axes, Point, front_chart

AXES = Axes("runs", "Accuracy against size", "bytes", lambda value: f"{value:g} B", "", share=True, table="all")


def kinds(chart):
    return [circle.attrib["class"] for circle in parsed(chart).iter("circle")]


def test_the_front_is_marked_and_drawn_as_steps():
    points = [
        Point("1", "a", 10, 0.90),
        Point("2", "b", 20, 0.95),
        Point("3", "c", 30, 0.93),
        Point("", "original", 40, 0.96),
    ]

    chart = front_chart(points, AXES)

    assert sorted(kinds(chart)) == ["best", "best", "original", "run"]
    path = next(element for element in parsed(chart).iter("path"))
    corners = [tuple(map(float, point.split(","))) for point in re.findall(r"[\d.]+,[\d.]+", path.attrib["d"])]
    assert len(corners) == 5
    assert all(first[0] == second[0] or first[1] == second[1] for first, second in itertools.pairwise(corners))
    assert {"1", "2", "3"} <= set(texts(chart))
    assert "a, 10 B, 90 %" in parsed(chart).find("desc").text
    assert has_table(chart)


def test_a_single_run_is_a_dot_without_a_line():
    chart = front_chart([Point("1", "a", 10, 1.0)], AXES)

    assert kinds(chart) == ["best"]
    assert list(parsed(chart).iter("path")) == []


@pytest.mark.parametrize("scores", [[0.99, 0.994, 0.1], [1.0, 0.5], [1.0, 1.0], [0.0, 0.0], [-0.2, 0.9]])
@pytest.mark.parametrize("costs", [[10, 10], [1, 10_000], [10, 10.1]])
def test_any_figures_have_axes(scores, costs):
    points = [
        Point(str(n), f"run {n}", cost, score) for n, (cost, score) in enumerate(zip(costs, scores, strict=False), 1)
    ]

    chart = front_chart(points, AXES)

    ticks = [text for text in texts(chart) if text not in {"1", "2"}]
    assert len(ticks) == len(set(ticks))


def test_costs_that_differ_by_noise_do_not_fill_the_axis():
    chart = front_chart([Point("1", "a", 10.0, 0.9), Point("2", "b", 10.1, 0.8)], AXES)

    first, second = (float(circle.attrib["cx"]) for circle in parsed(chart).iter("circle"))
    assert abs(first - second) < 40


def test_numbers_that_would_cover_each_other_are_left_out():
    points = [Point(str(n), f"run {n}", 100 + 0.01 * n, 0.9 + 1e-5 * n) for n in range(1, 41)]

    shown = [text for text in texts(front_chart(points, AXES)) if text.isdigit() and int(text) <= 40]

    assert 1 <= len(shown) < 20
