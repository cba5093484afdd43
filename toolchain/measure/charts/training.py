"""What training did, step by step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from markupsafe import Markup

from toolchain import units
from toolchain.measure import svg
from toolchain.measure.charts.chart import AXIS_HEIGHT, BOTTOM, LEFT, RIGHT, TOP, Chart, Rows

CURVE_POINTS = 300
TABLE_ROWS = 24  # of a curve's table
LEAST_MISSING = 1e-4  # to a share of 1, that a logarithmic axis reaches


@dataclass(frozen=True)
class Progress:
    """What a chart of training shows.

    Attributes:
        key: unique on the page.
        title: of the chart.
        fields: logged fields, each with the CSS class of its curve.
        note: how to read it.
        share: whether the figures are shares of 1; then the logarithm is of what is missing to it, so that 99.2 and
            99.4 percent lie apart also where training began at 10.
    """

    key: str
    title: str
    fields: Mapping[str, str]
    note: str = ""
    share: bool = False

    def text(self, value: float) -> str:
        """Return a figure as text."""
        return f"{100 * value:.4g} %" if self.share else units.short(value)


PROGRESS = (
    Progress(
        "residuals",
        "Residuals",
        {"primal": "after", "dual": "before"},
        "Primal: how far the weights are from their constraint. Dual: how far the constraint's projection still moves.",
    ),
    Progress("progress", "Kept weights", {"kept": "after"}, "Of the projected model."),
    Progress(
        "accuracy",
        "Accuracy",
        {"selection_accuracy": "after"},
        "Of the projected model on the samples held out to pick the best state; not those that the verdict is from.",
        share=True,
    ),
    Progress("loss", "Training loss", {"loss": "after"}),
)

Entry = tuple[int, Mapping[str, Any]]
Pieces = list[list[tuple[int, float]]]  # of a curve, one per phase


def training_charts(convergence: Rows) -> list[Chart]:
    """Return a chart of every figure that the phases logged."""
    charts = (progress_chart(convergence, progress) for progress in PROGRESS)
    return [chart for chart in charts if chart is not None]


def progress_chart(convergence: Rows, progress: Progress) -> Chart | None:
    """Return how logged figures went over the steps of all phases, which are numbered; None where none was logged.

    Args:
        convergence: the report's section, in order; every phase may count its steps from zero.
        progress: what to show.
    """
    phases = _phases(convergence)
    found = {field: [_points(phase, field, progress.share) for phase in phases] for field in progress.fields}
    curves: dict[str, Pieces] = {
        field: pieces for field, pieces in found.items() if any(len(piece) > 1 for piece in pieces)
    }
    if not curves:
        return None
    description = "; ".join(
        f"{field}: {progress.text(points[0][1])} at first, {progress.text(points[-1][1])} at the end"
        for field, pieces in curves.items()
        if (points := [point for piece in pieces for point in piece])
    )
    parts = _draw(phases, curves, progress)
    return Chart(
        progress.title,
        svg.figure(progress.key, f"{progress.title} over the steps", description, BOTTOM + AXIS_HEIGHT, parts),
        ("Phase", "Step", *curves),
        _table(phases, list(curves), progress),
        legend=[(f"line {progress.fields[field]}", field) for field in curves] if len(curves) > 1 else (),
        note=progress.note,
    )


def _draw(phases: list[list[Entry]], curves: Mapping[str, Pieces], progress: Progress) -> list[Markup]:
    values = [value for pieces in curves.values() for piece in pieces for _, value in piece]
    x, y = svg.Scale(0, phases[-1][-1][0], LEFT, RIGHT), _value_scale(values, progress.share)
    label = (lambda missing: progress.text(1 - missing)) if progress.share else progress.text
    parts = [svg.left_axis(y, LEFT, RIGHT, label), svg.bottom_axis(x, TOP, BOTTOM, "step", units.short)]
    parts += [svg.line((x(phase[0][0]), TOP), (x(phase[0][0]), BOTTOM), "phase") for phase in phases[1:]]
    if len(phases) > 1:
        middles = [(x(phase[0][0]) + x(phase[-1][0])) / 2 for phase in phases]
        parts += [svg.text(middle, TOP - 4, str(number), "tick", "middle") for number, middle in enumerate(middles, 1)]
    for field, pieces in curves.items():
        # a phase that did not log the figure leaves a gap: nothing is drawn that was not measured
        for piece in pieces:
            drawn = [
                (x(step), y(1 - value if progress.share else value)) for step, value in _thinned(piece, CURVE_POINTS)
            ]
            parts.append(svg.path(drawn, f"curve {progress.fields[field]}") if len(drawn) > 1 else Markup(""))
    return parts


def _table(phases: list[list[Entry]], fields: Sequence[str], progress: Progress) -> list[tuple[str, ...]]:
    """Return the figures at some steps of every phase, its first and last among them."""
    rows = []
    for phase in phases:
        logged = [(step, entry) for step, entry in phase if any(entry.get(field) is not None for field in fields)]
        for step, entry in _thinned(logged, max(2, TABLE_ROWS // len(phases))):
            figures = (entry.get(field) for field in fields)
            shown = ("-" if value is None else progress.text(value) for value in figures)
            rows.append((entry["phase"], f"{step:,}", *shown))
    return rows


Item = TypeVar("Item")


def _thinned(items: Sequence[Item], most: int) -> list[Item]:
    return [*items[: -1 : max(1, len(items) // most)], *items[-1:]]


def _phases(convergence: Rows) -> list[list[Entry]]:
    """Return the entries of each phase in order, each with its step counted over all phases."""
    phases: list[list[Entry]] = []
    for entry in convergence:
        if not phases or phases[-1][-1][1]["phase"] != entry["phase"]:
            offset = phases[-1][-1][0] if phases else 0
            phases.append([])
        phases[-1].append((offset + entry["step"], entry))
    return phases


def _value_scale(values: list[float], share: bool) -> svg.Scale:
    """Return the vertical axis; of shares by what is missing to 1, least at the top."""
    if share:
        return svg.padded_log_scale([max(1 - value, LEAST_MISSING) for value in values], TOP, BOTTOM)
    return svg.padded_log_scale(values, BOTTOM, TOP)


def _points(phase: list[Entry], field: str, zero: bool) -> list[tuple[int, float]]:
    """Return the positive values of ``field``, and ``zero``; a logarithmic axis has no place for others."""
    values = ((step, entry.get(field)) for step, entry in phase)
    return [
        (step, float(value))
        for step, value in values
        if isinstance(value, int | float) and (value > 0 or (zero and value == 0))
    ]
