"""Pieces of an inline SVG chart: scales, ticks, escaped text. Pure functions from numbers to markup."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

# Widths in pixels of characters in a line of 12 pixels; any other is as wide as the widest.
CHARACTERS = (
    (4.8, "ijlIJ.,:;'|!/\\[]() -"),
    (8.0, 'abcdefghknopqrstuvxyz0123456789_"*$?'),
    (9.5, "ABCDEFGHKLNOPQRSTUVXYZ&#<>=+~"),
)
WIDEST = 12.5

WIDTH = 360  # of every chart; the page scales it, so that text stays readable on a phone


@dataclass(frozen=True)
class Scale:
    """Maps ``low..high`` onto ``start..end`` in pixels, linearly or by logarithm; values outside are clamped."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the pixel of ``value``."""
        value = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 2)

    def ticks(self, about: int = 4) -> list[float]:
        """Return round values inside the scale, ``about`` as many."""
        return _log_ticks(self.low, self.high, about) if self.log else _linear_ticks(self.low, self.high, about)


def _linear_ticks(low: float, high: float, about: int) -> list[float]:
    rough = (high - low) / about
    power = 10 ** math.floor(math.log10(rough))
    step = power * next(factor for limit, factor in ((1.5, 1), (3.5, 2), (7.5, 5), (10.1, 10)) if rough / power < limit)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float, about: int) -> list[float]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    every = max(1, math.ceil((last - first) / about))
    decades = [10.0**exponent for exponent in range(first, last + 1, every)]
    if len(decades) > 2:
        return decades
    factors = (1, 3) if len(decades) == 2 else (1, 2, 5)
    return [
        factor * 10.0**exponent
        for exponent in range(first - 1, last + 1)
        for factor in factors
        if low <= factor * 10.0**exponent <= high
    ]


def padded_log_scale(values: Iterable[float], start: float, end: float) -> Scale:
    """Return a log scale over the positive ``values`` with a little air on both sides."""
    found = list(values)
    low, high = min(found), max(found)
    return Scale(low / 1.25, high * 1.25, start, end, log=True)


def text(x: float, y: float, content: str, css: str = "label", anchor: str = "start") -> Markup:
    """Return a line of text; ``content`` is escaped."""
    return Markup('<text x="{}" y="{}" class="{}" text-anchor="{}">{}</text>').format(x, y, css, anchor, content)


def line(start: tuple[float, float], end: tuple[float, float], css: str) -> Markup:
    """Return a straight line."""
    return Markup('<line x1="{}" y1="{}" x2="{}" y2="{}" class="{}"/>').format(*start, *end, css)


def bar(x: float, y: float, width: float, height: float, css: str) -> Markup:
    """Return a bar; one that stands for more than nothing is never too thin to see."""
    return Markup('<rect x="{}" y="{}" width="{}" height="{}" class="{}"/>').format(
        x, y, round(max(width, 1.5), 2), height, css
    )


def dot(x: float, y: float, css: str) -> Markup:
    """Return a point of a dot plot."""
    return Markup('<circle cx="{}" cy="{}" r="4.5" class="{}"/>').format(x, y, css)


def path(points: Sequence[tuple[float, float]], css: str) -> Markup:
    """Return a line through the points."""
    return Markup('<path d="M{}" class="{}"/>').format(" L".join(f"{x:g},{y:g}" for x, y in points), css)


def figure(
    key: str, title: str, description: str, height: float, parts: Iterable[Markup], width: float = WIDTH
) -> Markup:
    """Return the whole chart; ``key`` is unique on the page, title and description are read out by screen readers."""
    body = Markup("").join(parts)
    return Markup(
        '<svg viewBox="0 0 {width} {height}" role="img" aria-labelledby="{key}-title {key}-text">'
        '<title id="{key}-title">{title}</title><desc id="{key}-text">{description}</desc>{body}</svg>'
    ).format(width=width, height=round(height), key=key, title=title, description=description, body=body)


def titled(name: str, parts: Iterable[Markup]) -> Markup:
    """Return a group that shows ``name`` when it is pointed at."""
    return Markup("<g><title>{}</title>{}</g>").format(escape(name), Markup("").join(parts))


def left_axis(scale: Scale, left: float, right: float, label: Callable[[float], str]) -> Markup:
    """Return grid lines across ``left..right`` with labels to their left."""
    parts = []
    for value in scale.ticks():
        y = scale(value)
        parts += [line((left, y), (right, y), "grid"), text(left - 6, y + 4, label(value), "tick", "end")]
    return Markup("").join(parts)


def bottom_axis(scale: Scale, top: float, bottom: float, title: str, label: Callable[[float], str]) -> Markup:
    """Return grid lines across ``top..bottom`` with labels below them, and the axis title below those."""
    parts = [text(scale.end, bottom + 33, title, "tick", "end")]
    for value in _apart(scale, label):
        x = scale(value)
        # a label at the edge of the drawing would be cut in half
        anchor = "start" if x < 12 else "end" if x > WIDTH - 24 else "middle"
        parts += [line((x, top), (x, bottom), "grid"), text(x, bottom + 17, label(value), "tick", anchor)]
    return Markup("").join(parts)


def _apart(scale: Scale, label: Callable[[float], str]) -> list[float]:
    """Return the ticks, of which some are left out where their labels would touch."""
    ticks = scale.ticks()
    while any(
        scale(right) - scale(left) < (text_width(label(left)) + text_width(label(right))) / 2
        for left, right in pairwise(ticks)
    ):
        ticks = ticks[::2]
    return ticks


def text_width(content: str) -> float:
    """Return about how wide a line of text is, rather too much: fonts differ, and this is for a wide one (DejaVu)."""
    return sum(next((width for width, chars in CHARACTERS if char in chars), WIDEST) for char in content)


def shorten(name: str, width: float) -> str:
    """Return ``name`` cut to at most ``width`` pixels; most of its end stays, where names of layers differ."""
    if text_width(name) <= width:
        return name
    kept = len(name)
    while kept and text_width(_cut(name, kept)) > width:
        kept -= 1
    return _cut(name, kept)


def _cut(name: str, kept: int) -> str:
    head = kept // 3
    return f"{name[:head]}…{name[len(name) - (kept - head) :]}"
