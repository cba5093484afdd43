"""How fast both models are, and where the time and the memory go."""

from collections.abc import Callable, Mapping
from typing import Any

from toolchain import units
from toolchain.measure import svg
from toolchain.measure.charts.chart import (
    AXIS_HEIGHT,
    BEFORE_AFTER,
    BOTTOM,
    LEFT,
    RIGHT,
    ROW,
    TOP,
    Chart,
    Rows,
    labelled,
)
from toolchain.measure.summary import memory_of

WIDE = 5  # latencies that differ by more than this factor are drawn on a logarithmic axis
MOST_LAYERS = 12  # in the chart; its table has all


def latency_chart(row: Mapping[str, Any], key: str) -> Chart:
    """Return the cumulative distribution of both latencies: the share of runs that took at most so long."""
    sides = ((row["original"], "original", "before"), (row["compressed"], "compressed", "after"))
    low = min(side["quantiles_ms"][0] for side, _, _ in sides)
    # A few stalls of the machine would otherwise squeeze both curves against the left edge.
    high = max(min(side["p99_ms"], 2 * side["p90_ms"]) for side, _, _ in sides)
    margin = 0.04 * (high - low) or 0.04 * high
    wide = high > WIDE * low
    x = svg.padded_log_scale((low, high), LEFT, RIGHT) if wide else svg.Scale(low - margin, high + margin, LEFT, RIGHT)
    y = svg.Scale(0, 1, BOTTOM, TOP)
    parts = [svg.left_axis(y, LEFT, RIGHT, lambda value: f"{100 * value:.0f} %")]
    parts.append(
        svg.bottom_axis(x, TOP, BOTTOM, f"milliseconds per run{', logarithmic' * wide}", lambda value: f"{value:g}")
    )
    for side, _, css in sides:
        values = side["quantiles_ms"]
        points = [(x(value), y((number + 0.5) / len(values))) for number, value in enumerate(values) if value <= x.high]
        parts.append(svg.path(points, f"curve {css}"))
        parts.append(svg.line((x(side["p50_ms"]), y(0.5) - 5), (x(side["p50_ms"]), y(0.5) + 5), f"mark {css}"))
    description = "; ".join(
        f"{name}: p50 {units.milliseconds(side['p50_ms'])}, p99 {units.milliseconds(side['p99_ms'])}"
        for side, name, _ in sides
    )
    title = "Latency of single runs"
    columns = ("", "p50", "p90", "p99", "Mean", "Runs")
    return Chart(
        title,
        svg.figure(key, f"{title} on {row['provider']}", description, BOTTOM + AXIS_HEIGHT, parts),
        columns,
        [
            (
                name,
                *(units.milliseconds(side[figure]) for figure in ("p50_ms", "p90_ms", "p99_ms", "mean_ms")),
                f"{side['runs']:,}",
            )
            for side, name, _ in sides
        ],
        legend=(("line before", "original"), ("line after", "compressed")),
        note="Share of the runs that took at most so long; the short upright lines are the medians. Rare slow runs lie "
        "beyond the right edge.",
    )


def cost_chart(row: Mapping[str, Any], key: str) -> Chart:
    """Return load time, and resident memory where it was measured, before and after."""
    groups: list[tuple[str, float, float, Callable[[float], str]]] = [
        ("time to load", row["load_ms"]["original"], row["load_ms"]["compressed"], units.milliseconds)
    ]
    for figure, name in (("load_bytes", "memory once loaded"), ("peak_bytes", "memory in use, at most")):
        sides = memory_of(row, figure)
        if sides is not None:
            groups.append((name, *sides, units.bytes_text))
    parts, y = [], 0
    for name, before, after, shown in groups:
        scale = svg.Scale(0, max(before, after, 1e-9), 0, svg.WIDTH - 90.0)
        parts.append(svg.text(0, y + 13, name))
        for value, css in ((before, "before"), (after, "after")):
            y += 20
            parts.append(svg.bar(0, y, scale(max(0, value)), 12, css))
            parts.append(svg.text(scale(max(0, value)) + 7, y + 10.5, shown(value), "value"))
        y += 30
    rows = [(name, shown(before), shown(after)) for name, before, after, shown in groups]
    title = "Load time and memory" if len(groups) > 1 else "Load time"
    return Chart(
        title,
        svg.figure(key, title, "; ".join(f"{name}: {old} to {new}" for name, old, new in rows), y - 8, parts),
        ("", "Original", "Compressed"),
        rows,
        legend=BEFORE_AFTER,
        note="Memory is what loading and running the model added to a process of its own." if len(groups) > 1 else "",
    )


def layers_chart(layers: Rows, key: str) -> Chart | None:
    """Return the time of the slowest layers before and after; None where none was profiled."""
    timed = [row for row in layers if _slowest(row) > 0]
    if not timed:
        return None
    ordered = sorted(timed, key=_slowest, reverse=True)
    shown = ordered[:MOST_LAYERS]
    scale = svg.Scale(0, _slowest(shown[0]), 0, svg.WIDTH - 4.0)
    parts = []
    for number, row in enumerate(shown):
        y = number * ROW
        bars = [
            svg.bar(0, y + top, scale(row[side]), 5, css)
            for side, css, top in (("original_ms", "before", 18), ("compressed_ms", "after", 24))
            if row[side] is not None
        ]
        figures = f"{_text(row['original_ms'])} → {_text(row['compressed_ms'])}"
        parts.append(labelled(row["name"] or row["op"], figures, y, bars))
    height = len(shown) * ROW
    axis = svg.bottom_axis(scale, 12, height + 4, "milliseconds per run", lambda value: f"{value:g}")
    description = "; ".join(
        f"{row['name']}: {_text(row['original_ms'])} to {_text(row['compressed_ms'])}" for row in shown
    )
    title = "Where the time goes"
    limited = f"The {MOST_LAYERS} slowest of {len(ordered)} nodes. " if len(ordered) > MOST_LAYERS else ""
    return Chart(
        title,
        svg.figure(key, title, description, height + 4 + AXIS_HEIGHT, [axis, *parts]),
        ("Node", "Operator", "Original", "Compressed"),
        [(row["name"], row["op"], _text(row["original_ms"]), _text(row["compressed_ms"])) for row in ordered],
        texts=2,
        legend=BEFORE_AFTER,
        note=f"{limited}By the runtime's profiler, which itself takes time: compare these with each other only. "
        "A dash: the file has no such node.",
    )


def _slowest(row: Mapping[str, Any]) -> float:
    return max(row["original_ms"] or 0.0, row["compressed_ms"] or 0.0)


def _text(value: float | None) -> str:
    """Return the time in a node: the profiler counts whole microseconds, so three digits would promise too much."""
    if value is None:
        return "-"
    return f"{1e3 * value:.3g} µs" if value < 1 else units.milliseconds(value)
