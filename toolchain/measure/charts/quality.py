"""How good the compressed model is."""

from collections.abc import Mapping
from typing import Any

from toolchain import units
from toolchain.measure import svg
from toolchain.measure.charts.chart import AXIS_HEIGHT, Chart
from toolchain.measure.quality import ACCURACY

MOST_CLASSES = 16  # in the chart; its table has all
BAR = 21  # height of a class's row
NAMES = 58.0  # width for the names of classes


def drop_chart(quality: Mapping[str, Any]) -> Chart | None:
    """Return the change of accuracy with its 95 % interval against no change; None where it has no interval."""
    if "drop_ci95" not in quality:
        return None
    low, high = (-100 * bound for bound in reversed(quality["drop_ci95"]))
    change = 0.0 - 100 * quality["drop"]
    reach = 1.25 * max(abs(low), abs(high), 0.01)
    scale = svg.Scale(-reach, reach, 8, svg.WIDTH - 8.0)
    parts = [
        svg.bottom_axis(scale, 8, 66, "points of accuracy", lambda value: f"{value:+.3g}" if value else "0"),
        svg.line((scale(0), 8), (scale(0), 66), "zero"),
        svg.line((scale(low), 42), (scale(high), 42), "interval"),
        *(svg.line((scale(bound), 36), (scale(bound), 48), "interval") for bound in (low, high)),
        svg.dot(scale(change), 42, "after"),
        svg.text(min(max(scale(change), 30), svg.WIDTH - 30), 27, f"{change:+.2f}", "label", "middle"),
    ]
    before, after = units.percent(quality["original"]), units.percent(quality["compressed"])
    rows = [(before, after, f"{change:+.2f}", f"{low:+.2f}", f"{high:+.2f}", f"{quality['samples']:,}")]
    title = "Change of accuracy"
    description = f"{change:+.2f} points, 95 % confidence {low:+.2f} to {high:+.2f}"
    return Chart(
        title,
        svg.figure("drop", title, description, 66 + AXIS_HEIGHT, parts),
        ("Original", "Compressed", "Points", "At least", "At most", "Samples"),
        rows,
        texts=0,
        note="The bar is the 95 % confidence interval over paired samples. Where it crosses the line, these samples "
        "do not tell a change from none.",
    )


def classes_chart(quality: Mapping[str, Any]) -> Chart | None:
    """Return by how much each class is found less or more often; None without classes.

    Of many classes those are drawn that lost and won most.
    """
    if not quality["classes"]:
        return None
    changes = [(row, 100 * (row["compressed"] - row["original"]) / row["samples"]) for row in quality["classes"]]
    ordered = sorted(changes, key=lambda pair: pair[1])
    half = MOST_CLASSES // 2
    shown = ordered if len(ordered) <= MOST_CLASSES else [*ordered[:half], *ordered[-half:]]
    reach = 1.05 * max(1.0, *(abs(change) for _, change in shown))
    low, high = min(0.0, shown[0][1]), max(0.0, shown[-1][1])
    scale = svg.Scale(max(-reach, 1.05 * low - 0.1), min(reach, 1.05 * high + 0.1), NAMES + 44, svg.WIDTH - 46.0)
    parts = []
    for number, (row, change) in enumerate(shown):
        y, start, end = number * BAR + 4, *sorted((scale(0), scale(change)))
        parts.append(svg.text(0, y + 12, f"class {row['class']}"))
        if change:
            parts.append(svg.bar(start, y + 2, end - start, 12, "worse" if change < 0 else "better"))
        place, anchor = (start - 5, "end") if change < 0 else (end + 5, "start")
        parts.append(svg.text(place, y + 12, f"{change:+.1f}" if change else "0", "value", anchor))
    height = len(shown) * BAR + 6
    axis = svg.line((scale(0), 2), (scale(0), height), "zero")
    labelled = quality["metric"] == ACCURACY
    title = "Accuracy of each class" if labelled else "Agreement in each class"
    description = "; ".join(f"class {row['class']}: {change:+.1f} points" for row, change in shown)
    limited = "" if len(shown) == len(ordered) else f"The {MOST_CLASSES} that changed most of {len(ordered)} classes. "
    meaning = (
        "Change in points of how many of the class's samples are found."
        if labelled
        else "Points of the samples that the original puts into a class and the compressed model into another."
    )
    return Chart(
        title,
        svg.figure("classes", title, description, height, [axis, *parts]),
        ("Class", "Samples", "Original", "Compressed", "Points"),
        [_class_row(row, change) for row, change in ordered],
        note=limited + meaning,
        legend=(("worse", "fewer"), ("better", "more")) if labelled else (("worse", "fewer"),),
    )


def _class_row(row: Mapping[str, Any], change: float) -> tuple[str, ...]:
    shares = (units.percent(row[side] / row["samples"]) for side in ("original", "compressed"))
    return str(row["class"]), f"{row['samples']:,}", *shares, f"{change:+.2f}"
