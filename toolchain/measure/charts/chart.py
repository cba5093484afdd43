"""What a chart is to the page: a drawing, how to read it, and the same figures as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from toolchain.measure import svg

Rows = Sequence[Mapping[str, Any]]

LARGEST = 24  # tensors in a chart; the table has all of them
ROW = 34  # height of a row: a line of text above its bar
LEFT, RIGHT = 46.0, svg.WIDTH - 8.0  # the plotting area of charts with a vertical axis
TOP, BOTTOM = 18.0, 190.0
AXIS_HEIGHT = 38  # ticks and the axis title below the plotting area
GAP = 10.0  # at least, between a name and its figure


@dataclass(frozen=True)
class Chart:
    """A chart of the page.

    Attributes:
        title: what it shows.
        drawing: inline SVG with title and description.
        columns: headings of its table; the first ``texts`` of them hold text, the others figures.
        rows: the figures as text; empty where another table of the page has them, which ``table`` names.
        texts: how many columns hold text.
        legend: CSS classes of a swatch and what it stands for.
        note: how to read it.
        table: id of the table that has the figures, where that is not the chart's own.
    """

    title: str
    drawing: Markup
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    texts: int = 1
    legend: Sequence[tuple[str, str]] = ()
    note: str = ""
    table: str = ""


BEFORE_AFTER = (("before", "original"), ("after", "compressed"))


def labelled(name: str, value: str, y: float, marks: Sequence[Markup]) -> Markup:
    """Return a row: its name on the left, its figure on the right, and what is drawn below them."""
    figure = svg.shorten(value, 0.6 * svg.WIDTH)
    room = svg.WIDTH - GAP - svg.text_width(figure)
    return svg.titled(
        name,
        [svg.text(0, y + 12, svg.shorten(name, room)), svg.text(svg.WIDTH, y + 12, figure, "value", "end"), *marks],
    )


def largest(tensors: Rows) -> Rows:
    """Return the largest tensors, those with a row in the charts, in the model's order."""
    chosen = {id(tensor) for tensor in sorted(tensors, key=lambda tensor: tensor["size"], reverse=True)[:LARGEST]}
    return [tensor for tensor in tensors if id(tensor) in chosen]


def largest_note(tensors: Rows) -> str:
    """Return which tensors a chart shows, where it does not show all."""
    return f"The {LARGEST} largest of {len(tensors)} tensors." if len(tensors) > LARGEST else ""
