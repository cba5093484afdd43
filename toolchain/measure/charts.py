"""The charts of the page: each a pure function from a section of the report to inline SVG."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from toolchain.measure import svg, units

Rows = Sequence[Mapping[str, Any]]

LARGEST = 24  # tensors in a chart; the table has all of them
CURVE_POINTS = 300
WIDE = 5  # latencies that differ by more than this factor are drawn on a logarithmic axis
LEAST_MISSING = 1e-4  # to a share of 1, that a logarithmic axis reaches
ROW = 32  # height of a tensor's row: a line of text above its bar
LEFT, RIGHT = 46.0, svg.WIDTH - 8.0  # the plotting area of charts with a vertical axis
TOP, BOTTOM = 14.0, 186.0
AXIS_HEIGHT = 36  # ticks and the axis title below the plotting area


def largest(tensors: Rows) -> Rows:
    """Return the largest tensors, those with a row in the charts, in the model's order."""
    chosen = {id(tensor) for tensor in sorted(tensors, key=lambda tensor: tensor["size"], reverse=True)[:LARGEST]}
    return [tensor for tensor in tensors if id(tensor) in chosen]


def bytes_chart(size: Mapping[str, Any]) -> Markup:
    """Return bars of the file before and after, as it is and gzipped."""
    groups = (
        ("file", size["original_bytes"], size["compressed_bytes"], size["ratio"]),
        ("gzipped", size["gzip_original_bytes"], size["gzip_compressed_bytes"], size["gzip_ratio"]),
    )
    scale = svg.Scale(0, max(max(before, after) for _, before, after, _ in groups), 0, svg.WIDTH - 90.0)
    parts, y = [], 0
    for name, before, after, ratio in groups:
        parts.append(svg.text(0, y + 13, f"{name}, {units.times(ratio)} smaller"))
        for value, css in ((before, "before"), (after, "after")):
            y += 22
            parts.append(svg.bar(0, y, scale(value), 14, css))
            parts.append(svg.text(scale(value) + 7, y + 11.5, units.bytes_text(value), "value"))
        y += 30
    description = "; ".join(
        f"{name}: {units.bytes_text(before)} before, {units.bytes_text(after)} after"
        for name, before, after, _ in groups
    )
    return svg.figure("bytes", "Bytes before and after", description, y - 8, parts)


def kept_chart(tensors: Rows) -> Markup:
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
        rows.append(_row(tensor["name"], y, f"{kept:,} of {tensor['size']:,}", dots))
    height = len(shown) * ROW
    axis = svg.bottom_axis(scale, 12, height + 4, "weights, logarithmic", units.short)
    description = "; ".join(f"{tensor['name']}: {tensor['nonzero']:,} of {tensor['size']:,}" for tensor in shown)
    return svg.figure("kept", "Nonzero weights per tensor", description, height + 4 + AXIS_HEIGHT, [axis, *rows])


def bits_chart(tensors: Rows) -> Markup:
    """Return, per tensor, the bits of one kept value and the bits in the file per original weight."""
    shown = largest(tensors)
    stored = [8 * tensor["bytes"] / tensor["size"] for tensor in shown]
    top = max([*stored, *(tensor["bits"] for tensor in shown)])
    scale = svg.Scale(0, top, 0, svg.WIDTH)
    rows = []
    for number, (tensor, bits) in enumerate(zip(shown, stored, strict=True)):
        y = number * ROW
        bars = [
            svg.bar(0, y + 17, scale(tensor["bits"]), 4.5, "before"),
            svg.bar(0, y + 22, scale(bits), 4.5, "after"),
        ]
        rows.append(_row(tensor["name"], y, f"{tensor['bits']} / {units.significant(bits)} bits", bars))
    height = len(shown) * ROW
    axis = svg.bottom_axis(scale, 12, height + 4, "bits", lambda value: f"{value:g}")
    description = "; ".join(
        f"{tensor['name']}: {tensor['bits']} bits per value, {units.significant(bits)} stored per weight"
        for tensor, bits in zip(shown, stored, strict=True)
    )
    return svg.figure("bits", "Bits per tensor", description, height + 4 + AXIS_HEIGHT, [axis, *rows])


def _row(name: str, y: float, value: str, bars: list[Markup]) -> Markup:
    room = 50 - len(value)
    return svg.titled(
        name,
        [svg.text(0, y + 12, svg.shorten(name, room)), svg.text(svg.WIDTH, y + 12, value, "value", "end"), *bars],
    )


def latency_chart(row: Mapping[str, Any], key: str) -> Markup:
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
    title = f"Latency distribution on {row['provider']}"
    return svg.figure(key, title, description, BOTTOM + AXIS_HEIGHT, parts)


def progress_chart(
    convergence: Rows, fields: Mapping[str, str], key: str, title: str, *, share: bool = False
) -> Markup | None:
    """Return how logged figures went over the steps of all phases, which are numbered; None where none was logged.

    Args:
        convergence: the report's section, in order; every phase may count its steps from zero.
        fields: CSS class of the curve by field name.
        key: unique on the page.
        title: of the chart.
        share: whether the figures are shares of 1; then the logarithm is of what is missing to it, so that 99.2 and
            99.4 percent lie apart also where training began at 10.
    """
    phases = _phases(convergence)
    curves = {field: [_points(phase, field, share) for phase in phases] for field in fields}
    curves = {field: pieces for field, pieces in curves.items() if any(len(piece) > 1 for piece in pieces)}
    if not curves:
        return None
    values = [value for pieces in curves.values() for piece in pieces for _, value in piece]
    x, y = svg.Scale(0, phases[-1][-1][0], LEFT, RIGHT), _value_scale(values, share)
    shown = (lambda value: f"{100 * value:.4g} %") if share else units.short
    label = (lambda missing: shown(1 - missing)) if share else units.short
    parts = [svg.left_axis(y, LEFT, RIGHT, label), svg.bottom_axis(x, TOP, BOTTOM, "step", units.short)]
    parts += [svg.line((x(phase[0][0]), TOP), (x(phase[0][0]), BOTTOM), "phase") for phase in phases[1:]]
    if len(phases) > 1:
        middles = [(x(phase[0][0]) + x(phase[-1][0])) / 2 for phase in phases]
        parts += [svg.text(middle, TOP - 4, str(number), "tick", "middle") for number, middle in enumerate(middles, 1)]
    for field, pieces in curves.items():
        # a phase that did not log the figure leaves a gap: nothing is drawn that was not measured
        for piece in pieces:
            thinned = [*piece[: -1 : max(1, len(piece) // CURVE_POINTS)], *piece[-1:]]
            drawn = [(x(step), y(1 - value if share else value)) for step, value in thinned]
            parts.append(svg.path(drawn, f"curve {fields[field]}") if len(drawn) > 1 else Markup(""))
    description = "; ".join(
        f"{field}: {shown(points[0][1])} at first, {shown(points[-1][1])} at the end"
        for field, pieces in curves.items()
        if (points := [point for piece in pieces for point in piece])
    )
    return svg.figure(key, title, description, BOTTOM + AXIS_HEIGHT, parts)


Entry = tuple[int, Mapping[str, Any]]


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
