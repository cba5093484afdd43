"""Runs against each other: what they score against what they cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from toolchain import units
from toolchain.measure import svg
from toolchain.measure.charts.chart import AXIS_HEIGHT, BOTTOM, RIGHT, TOP, Chart
from toolchain.measure.runs import pareto_front

LEFT = 56.0
WIDE = 4  # costs, or what scores miss, that differ by more than this factor are drawn on a logarithmic axis
TEXT_HEIGHT, TEXT_WIDTH = 12.0, 7.5  # of a line and of a digit


@dataclass(frozen=True)
class Point:
    """A run, or the original, in a chart: its number in the table, empty for the original, and its figures."""

    number: str
    name: str
    cost: float
    score: float


@dataclass(frozen=True)
class Axes:
    """What a chart of runs compares.

    Attributes:
        key: unique on the page.
        title: of the chart.
        cost: of the horizontal axis.
        cost_text: writes a cost.
        where: what the costs were measured on; empty where that does not matter.
        share: whether scores are shares, written in percent.
        table: id of the table with the figures.
    """

    key: str
    title: str
    cost: str
    cost_text: Callable[[float], str]
    where: str
    share: bool
    table: str

    def score_text(self, score: float) -> str:
        """Return a score as text."""
        return f"{100 * score:.4g} %" if self.share else f"{score:.4g}"


def front_chart(points: Sequence[Point], axes: Axes) -> Chart:
    """Return all points, and a line through those that none beats.

    Args:
        points: at least one; costs positive, scores at most 1.
        axes: what they are.
    """
    front = [points[index] for index in pareto_front([(point.cost, point.score) for point in points])]
    x, y = _cost_scale([point.cost for point in points]), _score_scale([point.score for point in points])
    places = {id(point): (x(point.cost), y(1 - point.score)) for point in points}
    parts = [
        svg.left_axis(y, LEFT, RIGHT, lambda missing: axes.score_text(1 - missing)),
        svg.bottom_axis(x, TOP, BOTTOM, f"{axes.cost}{', logarithmic' * x.log}", units.short),
    ]
    if len(front) > 1:
        parts.append(svg.path(_steps([places[id(point)] for point in front]), "front"))
    best = {id(point) for point in front}
    for point in sorted(points, key=lambda point: id(point) in best):
        kind = "original" if not point.number else "best" if id(point) in best else "run"
        says = f"{point.name}: {axes.cost_text(point.cost)}, {axes.score_text(point.score)}"
        parts.append(svg.titled(says, [svg.dot(*places[id(point)], kind)]))
    numbered = [*front, *(point for point in points if id(point) not in best)]
    parts += _labels([(point.number, places[id(point)]) for point in numbered if point.number], list(places.values()))
    description = "On the front: " + "; ".join(
        f"{point.name}, {axes.cost_text(point.cost)}, {axes.score_text(point.score)}" for point in front
    )
    return Chart(
        axes.title,
        svg.figure(axes.key, axes.title, description, BOTTOM + AXIS_HEIGHT, parts),
        legend=(
            ("round best", "on the front: none is better in both"),
            ("round run", "another run"),
            ("round original", "original"),
        ),
        note=f"{axes.where} Numbers are those of the table. Further left and further up is better.".strip(),
        table=axes.table,
    )


def _cost_scale(costs: Sequence[float]) -> svg.Scale:
    """Return the horizontal axis; a twentieth of the largest is its least margin, so that noise does not fill it."""
    low, high = min(costs), max(costs)
    if high > WIDE * low:
        return svg.padded_log_scale(costs, LEFT + 8, RIGHT)
    margin = max(0.08 * (high - low), 0.05 * high)
    return svg.Scale(low - margin, high + margin, LEFT, RIGHT)


def _score_scale(scores: Sequence[float]) -> svg.Scale:
    """Return the vertical axis of what is missing to 1, least at the top."""
    missing = [1 - score for score in scores]
    low, high = min(missing), max(missing)
    if high > WIDE * low > 0:
        return svg.padded_log_scale(missing, TOP, BOTTOM)
    margin = max(0.1 * (high - low), 0.005)
    return svg.Scale(max(low - margin, min(low, 0.0)), high + margin, TOP, BOTTOM)  # nothing scores above 1


def _steps(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the front as steps: what lies between two points is reached by neither."""
    path = [places[0]]
    for x, y in places[1:]:
        path += [(x, path[-1][1]), (x, y)]
    return path


def _labels(numbers: Sequence[tuple[str, tuple[float, float]]], dots: Sequence[tuple[float, float]]) -> list[Markup]:
    """Return the numbers beside their dots, as many as fit without covering a dot or each other."""
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in dots]
    parts = []
    for number, (x, y) in numbers:
        width = TEXT_WIDTH * len(number)
        for dx, dy in ((7, -6), (7, 14), (-7 - width, -6), (-7 - width, 14), (7, 4), (-7 - width, 4)):
            left, bottom = x + dx, y + dy
            box = (left, bottom - TEXT_HEIGHT + 2, left + width, bottom + 2)
            inside = box[0] >= LEFT and box[2] <= RIGHT and box[1] >= 0 and box[3] <= BOTTOM
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                parts.append(svg.text(round(left, 2), round(bottom, 2), number))
                break
    return parts


def _overlap(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]
