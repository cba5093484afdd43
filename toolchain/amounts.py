"""Parses what a user writes for an amount: ``36x``, ``97%``, ``2bit``, ``10m``. Imports nothing heavy."""

import math
import re
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from toolchain.errors import RecipeError, nearest

QuantKind = Literal["uniform", "power", "ternary", "binary", "auto"]
Granularity = Literal["tensor", "channel", "block"]

PRUNE_HINT = "write 36x (keep 1 weight in 36), 97% (zeros) or 0.97 (fraction of zeros)"
DURATION_HINT = "write 90s, 10m, 1h30m or a number of seconds"

_NUMBER = r"[0-9]*\.?[0-9]+"
_AMOUNT = re.compile(rf"([+-]?)({_NUMBER})\s*([x%]?)")
_BLOCK = re.compile(r"block([0-9]+)")
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
        kind: ``"uniform"`` for k-bit grids of equal steps, ``"power"`` for powers of two, ``"ternary"`` for -1, 0, 1
            and ``"binary"`` for -1, 1 times a scale; ``"auto"`` where the bits are to be found by measuring.
        bits: bits that one level index needs: k, 2 or 1; 0 for ``"auto"``.
        shifted: whether the levels lie to both sides of zero as the weights do, rather than evenly.
        granularity: what has a scale of its own: the tensor, an output channel, or a block of one.
        block_size: how many weights share a scale, where blocks do; else 0.
    """

    kind: QuantKind
    bits: int
    shifted: bool = False
    granularity: Granularity = "channel"
    block_size: int = 0

    def __str__(self) -> str:
        """Return it as the command line spells it."""
        words = [self.kind if self.kind in ("ternary", "binary", "auto") else f"{self.bits}bit"]
        words += ["power"] * (self.kind == "power") + ["asymmetric"] * self.shifted
        words += ["tensor"] * (self.granularity == "tensor") + [f"block{self.block_size}"] * (self.block_size > 0)
        return ",".join(words)


QUANT_SPECS = {
    **{f"{bits}bit": QuantSpec("uniform", bits) for bits in (8, 6, 5, 4, 3, 2)},
    "ternary": QuantSpec("ternary", 2),
    "binary": QuantSpec("binary", 1),
}
AUTO = "auto"
MOST_POWER_BITS = 4  # 4 bits reach from 1 to 64, which an 8-bit kernel holds
LEAST_BLOCK, LARGEST_BLOCK = 8, 4096
WORDS = ("asymmetric", "power", "tensor", "channel")


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
    """Parse a grid such as ``"4bit"``, ``"ternary"`` or ``"4bit,asymmetric,block32"``.

    The words behind it are ``asymmetric``, ``power`` (of two), and one of ``tensor``, ``channel`` and ``blockN``.

    Raises:
        RecipeError: it is none of them, or its words do not go together.
    """
    name, *words = (part.strip() for part in text.strip().lower().split(","))
    spec = QUANT_SPECS.get(name)
    if spec is None and name == AUTO:
        spec = QuantSpec("auto", 0)
    if spec is None:
        raise RecipeError(
            f"quant: {text!r} is not a known grid; {nearest(name, [*QUANT_SPECS, AUTO])}",
            hint=f"write one of {', '.join([*QUANT_SPECS, AUTO])}",
        )
    for word in words:
        spec = _with_word(spec, word, text)
    return spec


def _with_word(spec: QuantSpec, word: str, text: str) -> QuantSpec:
    block = _BLOCK.fullmatch(word)
    if word not in WORDS and block is None:
        raise RecipeError(
            f"quant: {word!r} in {text!r} says nothing of a grid; {nearest(word, WORDS)}",
            hint=f"behind the grid can be {', '.join(WORDS)} or block32",
        )
    if word in ("asymmetric", "power") and spec.kind != "uniform":
        raise RecipeError(f"quant: {text!r}: only grids of equal steps, such as 4bit, can be {word}")
    if word == "asymmetric":
        return replace(spec, shifted=True)
    if word == "power":
        if spec.bits > MOST_POWER_BITS or spec.shifted:
            raise RecipeError(
                f"quant: {text!r}: powers of two have 2 to {MOST_POWER_BITS} bits, to both sides of zero alike",
                hint=f"{MOST_POWER_BITS} bits reach from 1 to 64, more would not fit the 8 bits that kernels multiply",
            )
        return replace(spec, kind="power")
    if spec.granularity != "channel" or (spec.kind == "auto" and word != "channel"):
        raise RecipeError(f"quant: {text!r} says twice what has a scale, or says it of auto, which has one per channel")
    if block is None:
        return replace(spec, granularity="tensor" if word == "tensor" else "channel")
    size = int(block[1])
    if not LEAST_BLOCK <= size <= LARGEST_BLOCK:
        raise RecipeError(f"quant: {text!r}: blocks have {LEAST_BLOCK} to {LARGEST_BLOCK} weights")
    return replace(spec, granularity="block", block_size=size)


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
