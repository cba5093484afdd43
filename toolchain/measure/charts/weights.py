"""What became of the weights of every tensor."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from toolchain import units
from toolchain.measure import svg
from toolchain.measure.charts.chart import AXIS_HEIGHT, ROW, Chart, Rows, labelled, largest, largest_note

SMALL_WIDTH, SMALL_HEIGHT = 170, 92  # of one histogram among many


def kept_chart(tensors: Rows) -> Chart:
    """Return, per tensor, a dot for all its weights and one for those that are not zero.

    The axis is logarithmic, so the distance between the dots is the ratio. Dots and not bars, whose lengths would mean
    nothing there.
    """
    shown = largest(tensors)
    scale = svg.Scale(1, max(10.0, *(1.2 * tensor["size"] for tensor in shown)), 5, svg.WIDTH - 5.0, log=True)
    rows = []
    for number, tensor in enumerate(shown):
        y, kept = number * ROW, tensor["nonzero"]
        dots = [svg.dot(scale(tensor["size"]), y + 22, "before")]
        if kept:
            dots.insert(0, svg.line((scale(kept), y + 22), (scale(tensor["size"]), y + 22), "span"))
            dots.append(svg.dot(scale(kept), y + 22, "after"))
        rows.append(labelled(tensor["name"], f"{kept:,} of {tensor['size']:,}", y, dots))
    height = len(shown) * ROW
    axis = svg.bottom_axis(scale, 12, height + 4, "weights, logarithmic", units.short)
    description = "; ".join(f"{tensor['name']}: {tensor['nonzero']:,} of {tensor['size']:,}" for tensor in shown)
    title = "Nonzero weights of every tensor"
    return Chart(
        title,
        svg.figure("kept", title, description, height + 4 + AXIS_HEIGHT, [axis, *rows]),
        legend=(("round before", "all weights"), ("round after", "nonzero")),
        note=largest_note(tensors),
        table="tensors",
    )


def bits_chart(tensors: Rows) -> Chart:
    """Return, per tensor, the bits of one kept value and the bits in the file per original weight."""
    shown = largest(tensors)
    stored = [8 * tensor["bytes"] / tensor["size"] for tensor in shown]
    scale = svg.Scale(0, max([*stored, *(tensor["bits"] for tensor in shown)]), 0, svg.WIDTH - 4.0)
    rows = []
    for number, (tensor, bits) in enumerate(zip(shown, stored, strict=True)):
        y = number * ROW
        bars = [
            svg.bar(0, y + 18.5, scale(tensor["bits"]), 4.5, "before"),
            svg.bar(0, y + 24, scale(bits), 4.5, "after"),
        ]
        rows.append(labelled(tensor["name"], f"{tensor['bits']} / {units.significant(bits)} bits", y, bars))
    height = len(shown) * ROW
    axis = svg.bottom_axis(scale, 12, height + 4, "bits", lambda value: f"{value:g}")
    description = "; ".join(
        f"{tensor['name']}: {tensor['bits']} bits per value, {units.significant(bits)} stored per weight"
        for tensor, bits in zip(shown, stored, strict=True)
    )
    title = "Bits of every tensor"
    return Chart(
        title,
        svg.figure("bits", title, description, height + 4 + AXIS_HEIGHT, [axis, *rows]),
        legend=(("before", "of one kept value"), ("after", "in the file, per original weight")),
        note=largest_note(tensors),
        table="tensors",
    )


def histogram_charts(tensors: Rows) -> list[Chart]:
    """Return a small histogram per tensor, of the values that are not zero; each side has its own vertical scale."""
    shown = [row for row in largest(tensors) if row["histogram"] is not None]
    return [_histogram(row, f"histogram-{number}") for number, row in enumerate(shown)]


def _histogram(row: Mapping[str, Any], key: str) -> Chart:
    edges = row["histogram"]["edges"]
    x = svg.Scale(edges[0], edges[-1], 2, SMALL_WIDTH - 2.0)
    parts: list[Markup] = []
    for side, css in (("original", "before area"), ("compressed", "after")):
        counts = row["histogram"][side]
        y = svg.Scale(0, max(1, *counts), SMALL_HEIGHT - 18.0, 4)
        if side == "original":
            steps = [(x(edge), y(count)) for number, count in enumerate(counts) for edge in edges[number : number + 2]]
            base = y(0)
            parts.append(svg.path([(steps[0][0], base), *steps, (steps[-1][0], base)], css))
            continue
        for number, count in enumerate(counts):
            if count:
                left, right, top = x(edges[number]), x(edges[number + 1]), min(y(count), y(0) - 1.5)
                parts.append(svg.bar(left + 0.4, top, right - left - 0.8, round(y(0) - top, 2), css))
    parts.append(svg.line((x(edges[0]), SMALL_HEIGHT - 18), (x(edges[-1]), SMALL_HEIGHT - 18), "grid"))
    parts.append(svg.text(2, SMALL_HEIGHT - 4, units.signed(edges[0]), "tick"))
    parts.append(svg.text(SMALL_WIDTH - 2, SMALL_HEIGHT - 4, units.signed(edges[-1]), "tick", "end"))
    kept = sum(row["histogram"]["compressed"])
    description = (
        f"{sum(row['histogram']['original']):,} values that are not zero before, {kept:,} after, "
        f"from {units.signed(edges[0])} to {units.signed(edges[-1])}"
    )
    title = f"Values of {row['name']}"
    return Chart(row["name"], svg.figure(key, title, description, SMALL_HEIGHT, parts, SMALL_WIDTH))


def histogram_table(tensors: Rows) -> list[tuple[str, ...]]:
    """Return, per tensor, its range, its values that are not zero before and after, and the filled bins of each."""
    rows = []
    for tensor in tensors:
        found = tensor["histogram"]
        if found is None:
            continue
        before, after = found["original"], found["compressed"]
        figures = (sum(before), sum(after), sum(map(bool, before)), sum(map(bool, after)))
        span = (units.signed(found["edges"][0]), units.signed(found["edges"][-1]))
        rows.append((tensor["name"], *span, *(f"{figure:,}" for figure in figures)))
    return rows
