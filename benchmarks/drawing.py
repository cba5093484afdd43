"""Drawings of the benchmarks: the page's charts as files that stand alone."""

from collections.abc import Sequence

from common import RESULTS

from toolchain import units
from toolchain.measure.charts.runs import Axes, Point, front_chart

# The page's style sheet follows dark mode and is shared by many charts; a file that a README shows needs only this.
STYLE = """
svg { background: #fff; }
text { font: 12px system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: #15191e; }
.tick { fill: #56606b; font-size: 11px; }
.grid { stroke: #dde1e5; }
.front { fill: none; stroke: #0a62a6; stroke-width: 1.5; }
circle.run { fill: #c9cfd6; stroke: #78828d; stroke-width: 1.5; }
circle.best { fill: #0a62a6; stroke: #fff; stroke-width: 1.5; }
"""


def write_front(name: str, model: str, points: Sequence[Point]) -> None:
    """Write ``results/NAME.svg``: accuracy against the latency of one image in milliseconds, and the front."""
    axes = Axes(
        key="front",
        title=f"{model}: accuracy against latency",
        cost="milliseconds",
        cost_text=units.milliseconds,
        where="",
        share=True,
        table="",
    )
    drawing = str(front_chart(points, axes).drawing)
    opening, rest = drawing.split(">", 1)
    path = RESULTS / f"{name}.svg"
    path.write_text(f'{opening} xmlns="http://www.w3.org/2000/svg" width="540"><style>{STYLE}</style>{rest}\n')
