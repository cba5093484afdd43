"""Parses what a threshold is written as: ``2MB``, ``5ms``, ``98%``, ``2x``, ``0.5``. Imports nothing heavy."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from toolchain.errors import RecipeError

_AMOUNT = re.compile(r"([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([a-z%]*)", re.IGNORECASE)

_BYTES = {"b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True)
class Unit:
    """What a threshold is given in.

    Attributes:
        parse: returns the value of a text; raises ``RecipeError`` with a hint where it has none.
        metavar: how the help calls it.
    """

    parse: Callable[[str], float]
    metavar: str


def parse_bytes(text: str) -> float:
    """Parse ``"2MB"``, ``"500KB"`` or ``"1.5MiB"``; return bytes.

    Raises:
        RecipeError: it is no size, or has no unit.
    """
    return _scaled(text, "a size", _BYTES, "write 2MB, 500KB, 1.5MiB or 800B")


def parse_milliseconds(text: str) -> float:
    """Parse ``"5ms"``, ``"0.2s"`` or ``"300us"``; return milliseconds.

    Raises:
        RecipeError: it is no time, or has no unit.
    """
    return _scaled(text, "a time", _MILLISECONDS, "write 5ms, 0.2s or 300us")


def parse_factor(text: str) -> float:
    """Parse ``"2x"`` or ``"2"``.

    Raises:
        RecipeError: it is no factor.
    """
    return _scaled(text, "a factor", {"x": 1.0, "": 1.0}, "write 2x or 2")


def parse_points(text: str) -> float:
    """Parse ``"0.5"``: percentage points, 0 and above; below 0 asks for a gain.

    Raises:
        RecipeError: it is no number of points.
    """
    stripped = text.strip()
    sign = -1.0 if stripped.startswith("-") else 1.0
    hint = "write 0.5 for half a percentage point"
    if stripped.endswith("%"):
        raise RecipeError(f"{text!r} could be a share of the accuracy; points are differences of it", hint=hint)
    value = _scaled(stripped.removeprefix("-"), "a number of points", {"": 1.0}, hint, least=0.0)
    return sign * value


def parse_percent(text: str) -> float:
    """Parse ``"98.5%"`` or the fraction ``"0.985"``; return percent.

    Raises:
        RecipeError: it is neither, or outside of 0 to 100 %.
    """
    hint = "write 98% or 0.98"
    value = _scaled(text, "an accuracy", {"%": 1.0, "": 100.0}, hint)
    if value > 100:
        raise RecipeError(f"{text!r} is more than 100 %", hint=hint)
    return value


UNITS: Mapping[str, Unit] = {
    "bytes": Unit(parse_bytes, "SIZE"),
    "ms": Unit(parse_milliseconds, "TIME"),
    "factor": Unit(parse_factor, "FACTOR"),
    "points": Unit(parse_points, "POINTS"),
    "percent": Unit(parse_percent, "SHARE"),
}


def _scaled(text: str, what: str, scales: Mapping[str, float], hint: str, least: float | None = None) -> float:
    """Return the number of ``text`` times the scale of its unit; above zero, or ``least`` and above."""
    match = _AMOUNT.fullmatch(text.strip())
    unit = match[2].lower() if match else ""
    if match is None or unit not in scales:
        missing = match is not None and not match[2]
        raise RecipeError(f"{text!r} has no unit" if missing else f"{text!r} is not {what}", hint=hint)
    value = float(match[1]) * scales[unit]
    enough = value > 0 if least is None else value >= least
    if not math.isfinite(value) or not enough:
        raise RecipeError(f"{text!r} must be above zero and finite", hint=hint)
    return value
