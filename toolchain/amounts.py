"""Parses what a user writes for an amount: ``36x``, ``97%``, ``2bit``, ``10m``. Imports nothing heavy."""

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from toolchain.errors import RecipeError, nearest

QuantKind = Literal["uniform", "ternary", "binary"]

PRUNE_HINT = "write 36x (keep 1 weight in 36), 97% (zeros) or 0.97 (fraction of zeros)"
DURATION_HINT = "write 90s, 10m, 1h30m or a number of seconds"

_NUMBER = r"[0-9]*\.?[0-9]+"
_AMOUNT = re.compile(rf"([+-]?)({_NUMBER})\s*([x%]?)")
_DURATION = re.compile(rf"(?:({_NUMBER})h)?\s*(?:({_NUMBER})m)?\s*(?:({_NUMBER})s?)?")


@dataclass(frozen=True)
class PruneTarget:
    """How much is to be zero.

    Attributes:
        text: what the user wrote.
        ratio: ``weights / kept weights`` when written as ``36x``; above 1.
        zeros: the fraction of zeros when written as ``97%`` or ``0.97``; inside (0, 1).
    """

    text: str
    ratio: Fraction | None = None
    zeros: Fraction | None = None

    def kept(self, total: int) -> int:
        """Return how many of ``total`` weights stay: ``round(total / ratio)`` or ``total - round(total * zeros)``."""
        if self.ratio is not None:
            return round(total / self.ratio)
        return total - round(total * (self.zeros or 0))


@dataclass(frozen=True)
class QuantSpec:
    """The family of grids that weights are quantized to.

    Attributes:
        kind: ``"uniform"`` for k-bit grids, ``"ternary"`` for -1, 0, 1 and ``"binary"`` for -1, 1 times a scale.
        bits: bits that one level index needs: k, 2 or 1.
    """

    kind: QuantKind
    bits: int

    def __str__(self) -> str:
        """Return it as the command line spells it."""
        return f"{self.bits}bit" if self.kind == "uniform" else self.kind


QUANT_SPECS = {
    "8bit": QuantSpec("uniform", 8),
    "4bit": QuantSpec("uniform", 4),
    "3bit": QuantSpec("uniform", 3),
    "2bit": QuantSpec("uniform", 2),
    "ternary": QuantSpec("ternary", 2),
    "binary": QuantSpec("binary", 1),
}


def parse_prune(text: str) -> PruneTarget:
    """Parse ``"36x"``, ``"97%"`` or ``"0.97"``.

    Raises:
        RecipeError: it is not an amount, it is ambiguous, or it would prune nothing or everything.
    """
    match = _AMOUNT.fullmatch(text.strip().lower())
    if match is None:
        raise RecipeError(f"prune: {text!r} is not an amount of pruning", hint=PRUNE_HINT)
    sign, number, unit = match.groups()
    value = Fraction(number)
    if sign == "-":
        raise RecipeError(f"prune: {text!r} is negative", hint=PRUNE_HINT)
    if unit == "x":
        if value <= 1:
            raise RecipeError(f"prune: {text!r} prunes nothing, the ratio must be above 1x", hint=PRUNE_HINT)
        return PruneTarget(text, ratio=value)
    if not unit and value > 1:
        raise RecipeError(
            f"prune: {text!r} is ambiguous without a unit",
            hint=f"write {number}x to keep 1 weight in {number}"
            + (f", or {number}% to make {number} weights in 100 zero" if value < 100 else ""),
        )
    zeros = value / 100 if unit else value
    if zeros == 0:
        raise RecipeError(f"prune: {text!r} prunes nothing", hint=f"leave --prune out, or {PRUNE_HINT}")
    if zeros >= 1:
        raise RecipeError(f"prune: {text!r} leaves no weight", hint=PRUNE_HINT)
    return PruneTarget(text, zeros=zeros)


def parse_quant(text: str) -> QuantSpec:
    """Parse ``"8bit"``, ``"4bit"``, ``"3bit"``, ``"2bit"``, ``"ternary"`` or ``"binary"``.

    Raises:
        RecipeError: it is none of them.
    """
    spec = QUANT_SPECS.get(text.strip().lower())
    if spec is None:
        raise RecipeError(
            f"quant: {text!r} is not a known grid; {nearest(text, QUANT_SPECS)}",
            hint=f"write one of {', '.join(QUANT_SPECS)}",
        )
    return spec


def parse_duration(text: str) -> float:
    """Parse ``"10m"``, ``"90s"``, ``"1h30m"`` or plain seconds; return seconds.

    Raises:
        RecipeError: it is not a duration, or it is not above zero.
    """
    stripped = text.strip().lower()
    match = _DURATION.fullmatch(stripped)
    if match is None or not stripped:
        raise RecipeError(f"budget: {text!r} is not a duration", hint=DURATION_HINT)
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    total = 3600 * hours + 60 * minutes + seconds
    if not math.isfinite(total) or total <= 0:
        raise RecipeError(f"budget: {text!r} must be longer than zero", hint=DURATION_HINT)
    return total
