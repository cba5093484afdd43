"""Where the bytes are, before and after."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from toolchain import units
from toolchain.measure import svg
from toolchain.measure.charts.chart import (
    AXIS_HEIGHT,
    BEFORE_AFTER,
    ROW,
    Chart,
    Rows,
    labelled,
    largest,
    largest_note,
)

REST = "everything else"
HUES = 5  # colours of the page that tell encodings apart; any further ones share the last
LEAST_SHARE = 0.12  # of the bar, below which a percentage does not fit inside


def file_chart(size: Mapping[str, Any]) -> Chart:
    """Return bars of the file before and after, as it is and gzipped."""
    groups = (
        ("file", size["original_bytes"], size["compressed_bytes"], size["ratio"]),
        ("gzipped", size["gzip_original_bytes"], size["gzip_compressed_bytes"], size["gzip_ratio"]),
    )
    scale = svg.Scale(0, max(max(before, after) for _, before, after, _ in groups), 0, svg.WIDTH - 90.0)
    parts, y = [], 0
    for name, before, after, ratio in groups:
        parts.append(svg.text(0, y + 13, f"{name}, {units.smaller(ratio)}"))
        for value, css in ((before, "before"), (after, "after")):
            y += 22
            parts.append(svg.bar(0, y, scale(value), 14, css))
            parts.append(svg.text(scale(value) + 7, y + 11.5, units.bytes_text(value), "value"))
        y += 30
    rows = [
        (name, units.bytes_text(before), units.bytes_text(after), units.times(ratio))
        for name, before, after, ratio in groups
    ]
    description = "; ".join(f"{name}: {before} before, {after} after" for name, before, after, _ in rows)
    title = "Bytes before and after"
    return Chart(
        title,
        svg.figure("bytes", title, description, y - 8, parts),
        ("", "Original", "Compressed", "Ratio"),
        rows,
        legend=BEFORE_AFTER,
        note="External data included. Gzipped at level 6, as most servers send files.",
    )


def share_chart(size: Mapping[str, Any], tensors: Rows) -> Chart:
    """Return what each file consists of: weights by their encoding, and everything else, as shares of the whole."""
    sides = (
        ("original", size["original_bytes"], _parts([("dense", row["original_bytes"]) for row in tensors])),
        ("compressed", size["compressed_bytes"], _parts([(row["encoding"], row["bytes"]) for row in tensors])),
    )
    parts, rows, y = [], [], 0
    hues: dict[str, str] = {}
    for name, total, found in sides:
        found[REST] = max(0, total - sum(found.values()))
        whole = sum(found.values())  # more than the file where tensors share what rebuilds them
        parts.append(svg.text(0, y + 13, name))
        parts.append(svg.text(svg.WIDTH, y + 13, units.bytes_text(total), "value", "end"))
        x = 0.0
        for part, count in found.items():
            hue = hues.setdefault(part, "rest" if part == REST else f"hue{min(len(hues), HUES - 1)}")
            width = svg.WIDTH * count / whole
            parts.append(svg.titled(part, [svg.bar(x, y + 21, width, 24, hue)] if count else []))
            if count >= LEAST_SHARE * whole:
                parts.append(svg.text(x + width / 2, y + 38, f"{100 * count / whole:.0f} %", f"on-{hue}", "middle"))
            x += width
            rows.append((name, part, f"{count:,}", units.percent(count / whole)))
        y += 64
    description = "; ".join(f"{side}: {part} {share}" for side, part, _, share in rows)
    title = "What each file consists of"
    return Chart(
        title,
        svg.figure("shares", title, description, y - 14, parts),
        ("File", "Part", "Bytes", "Share"),
        rows,
        texts=2,
        legend=[(hue, part) for part, hue in hues.items()],
        note="Each bar is a whole file. Weights are told apart by how they are encoded, in the original all dense; "
        "everything else is the graph, names, biases and other constants.",
    )


def _parts(sizes: Sequence[tuple[str, int]]) -> dict[str, int]:
    """Return the bytes of each part, largest first."""
    sums: Counter[str] = Counter()
    for part, count in sizes:
        sums[part] += count
    return dict(sums.most_common())


def tensor_bytes_chart(tensors: Rows) -> Chart:
    """Return, per tensor, a dot for its bytes before and one for those after, on a logarithmic axis."""
    shown = largest(tensors)
    counts = [max(1, count) for row in shown for count in (row["original_bytes"], row["bytes"])]
    scale = svg.Scale(min(counts) / 1.3, max(10.0, 1.3 * max(counts)), 6, svg.WIDTH - 6.0, log=True)
    rows = []
    for number, tensor in enumerate(shown):
        y, before, after = number * ROW, tensor["original_bytes"], tensor["bytes"]
        marks = [
            svg.line((scale(max(1, after)), y + 22), (scale(max(1, before)), y + 22), "span"),
            svg.dot(scale(max(1, before)), y + 22, "before"),
            svg.dot(scale(max(1, after)), y + 22, "after"),
        ]
        rows.append(labelled(tensor["name"], f"{units.bytes_text(after)}, {tensor['encoding']}", y, marks))
    height = len(shown) * ROW
    axis = svg.bottom_axis(scale, 12, height + 4, "bytes, logarithmic", units.short)
    description = "; ".join(
        f"{row['name']}: {units.bytes_text(row['original_bytes'])} to {units.bytes_text(row['bytes'])}, "
        f"{row['encoding']}"
        for row in shown
    )
    title = "Bytes of every tensor"
    return Chart(
        title,
        svg.figure("tensor-bytes", title, description, height + 4 + AXIS_HEIGHT, [axis, *rows]),
        legend=(("round before", "original"), ("round after", "compressed")),
        note=f"{largest_note(tensors)} The figure is what the tensor takes in the compressed file.".strip(),
        table="tensors",
    )
