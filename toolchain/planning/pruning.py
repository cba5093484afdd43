"""Resolves how many weights every tensor keeps, and in which structure, before any compute."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from toolchain.amounts import PruneTarget
from toolchain.errors import RecipeError
from toolchain.graph import Weight
from toolchain.graph.layout import Layout
from toolchain.planning.plan import PruneGroup, PruneStep
from toolchain.planning.prunable import Prunable
from toolchain.structures import Structure, bounds, objection


@dataclass(frozen=True)
class PruneWish:
    """What is asked of one tensor.

    Attributes:
        weight: the tensor.
        layout: what its dimensions are; None where its users disagree.
        target: of its own; None leaves it to the overall target, False keeps it dense.
        structure: which of its weights go together.
        channels: which channels can go, where these do.
    """

    weight: Weight
    layout: Layout | None
    target: PruneTarget | Literal[False] | None
    structure: Structure
    channels: Prunable | None = None

    @property
    def objection(self) -> str:
        """Why it cannot have the structure; empty when it can."""
        if self.channels is not None and self.structure.by_channel:
            return self.channels.reasons.get(self.weight.name, "")
        return objection(self.structure, self.layout)

    @property
    def limits(self) -> tuple[int, int]:
        """The fewest and the most weights that it can keep."""
        if self.channels is not None and self.structure.by_channel:
            least = self.channels.least(self.weight.name, self.weight.shape, self.structure.sizes[0])
            return least, self.weight.size
        return (1, self.weight.size) if self.layout is None else bounds(self.structure, self.layout)


def prune_step(wishes: Sequence[PruneWish], target: PruneTarget | None) -> PruneStep:
    """Return the step that prunes what is asked for; its counts are exact.

    Args:
        wishes: of every prunable tensor.
        target: over all of them together; None prunes only those with a target of their own or a fixed ratio.

    Raises:
        RecipeError: a structure fits no tensor, or a count cannot be reached.
    """
    asked = [wish for wish in wishes if _is_asked(wish, target)]
    reasons = {wish.weight.name: wish.objection for wish in asked}
    skipped = tuple((name, reason) for name, reason in reasons.items() if reason)
    fitting = [wish for wish in asked if not reasons[wish.weight.name]]
    if not fitting and skipped:
        raise RecipeError(
            f"nothing can be pruned by {_names(asked)}: {list_skipped(skipped)}",
            hint="leave structure out to prune single weights, or name another one",
        )
    total = sum(wish.weight.size for wish in wishes)
    own = [_own_group(wish) for wish in fitting if wish.target or wish.structure.kind == "n:m"]
    rest = [wish for wish in fitting if wish.target is None and wish.structure.kind != "n:m"]
    groups = list(own)
    if target is not None:
        fixed = total - sum(wish.weight.size for wish in rest) - sum(group.size - group.kept for group in own)
        _check_reachable(target, (total, fixed), rest, list_skipped(skipped))
        groups += _share(rest, target.kept(total) - fixed)
    return PruneStep(tuple(groups), total, skipped)


def list_skipped(skipped: Sequence[tuple[str, str]]) -> str:
    """Return tensors with why they are skipped, at most three names for a reason."""
    names: dict[str, list[str]] = {}
    for name, reason in skipped:
        names.setdefault(reason, []).append(name)
    return "; ".join(f"{_some(found)} ({reason})" for reason, found in names.items())


def largest_ratio(weights: int, least: int) -> float:
    """Return the largest ratio, rounded down to two decimals, that leaves ``least`` of ``weights``."""
    return math.floor(100 * weights / least) / 100


def _ratio(total: int, least: int, most: int, *, largest: bool) -> str:
    """Return the largest or the smallest ratio that keeps ``least`` to ``most`` of ``total`` weights, to be asked for.

    It has two decimals, or as many more as ``round(total / ratio)`` needs to lie between the two.
    """
    for decimals in range(2, 12):
        scale = 10**decimals
        number = scale * total // least if largest else -(-scale * total // most)
        if least <= round(Fraction(scale * total, number)) <= most:
            break
    return f"{number / scale:.{decimals}f}x"


def _is_asked(wish: PruneWish, target: PruneTarget | None) -> bool:
    if wish.target is None:
        return target is not None or wish.structure.kind == "n:m"
    return bool(wish.target)


def _names(wishes: Sequence[PruneWish]) -> str:
    return ", ".join(dict.fromkeys(str(wish.structure) for wish in wishes))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _own_group(wish: PruneWish) -> PruneGroup:
    if wish.structure.by_channel:
        raise RecipeError(
            f"tensor {wish.weight.name!r} cannot be pruned to a target of its own by {wish.structure.kind}: "
            "it shares its channels",
            hint="give prune for the whole model, and leave it out of the [[tensor]] table",
        )
    weight, (least, most), text = wish.weight, wish.limits, wish.target.text if wish.target else ""
    kept = wish.target.kept(weight.size) if wish.target else least
    if wish.structure.kind == "n:m" and kept != least:
        raise RecipeError(
            f"tensor {weight.name!r}: {wish.structure} keeps {least:,} of {weight.size:,} weights, not {kept:,}",
            hint=f"leave its prune out: {wish.structure} says how many",
        )
    if kept < least:
        unit = "one weight has" if least == 1 else f"{least:,} weights, one unit of {wish.structure}, have"
        largest = _ratio(weight.size, least, most, largest=True)
        raise RecipeError(
            f"tensor {weight.name!r} has {weight.size:,} weights and cannot be pruned {text}",
            hint=f"the largest ratio that it can reach is {largest}: {unit} to stay",
        )
    if kept > most:
        raise RecipeError(
            f"tensor {weight.name!r}: {wish.structure} keeps at most {most:,} of {weight.size:,} weights, not {kept:,}",
            hint=f"ask for at least {_ratio(weight.size, least, most, largest=False)}",
        )
    return PruneGroup((weight.name,), kept, weight.size, wish.structure)


def _share(rest: Sequence[PruneWish], kept: int) -> list[PruneGroup]:
    """Return a group per structure; each gets its part of ``kept`` by size, as far as it can."""
    parts: dict[Structure, list[PruneWish]] = {}
    for wish in rest:
        parts.setdefault(wish.structure, []).append(wish)
    limits = [tuple(map(sum, zip(*(wish.limits for wish in part), strict=True))) for part in parts.values()]
    sizes = [sum(wish.weight.size for wish in part) for part in parts.values()]
    groups = []
    for index, (structure, part) in enumerate(parts.items()):
        low = max(limits[index][0], kept - sum(most for _, most in limits[index + 1 :]))
        high = min(limits[index][1], kept - sum(least for least, _ in limits[index + 1 :]))
        count = min(max(round(kept * sizes[index] / sum(sizes[index:])), low), high)
        groups.append(PruneGroup(tuple(wish.weight.name for wish in part), count, sizes[index], structure))
        kept -= count
    return groups


def _check_reachable(target: PruneTarget, counts: tuple[int, int], rest: Sequence[PruneWish], skipped: str) -> None:
    """Raise unless ``rest`` can absorb what is left: one unit per tensor at least, what its structures allow at most.

    Args:
        target: asked for over all prunable weights.
        counts: all prunable weights, and those that stay whatever happens to ``rest``: dense tensors and those with
            their own target.
        rest: the tensors without a target of their own.
        skipped: tensors that stay dense because of their structure, and why.
    """
    total, fixed = counts
    kept = target.kept(total)
    least, most = (fixed + sum(wish.limits[index] for wish in rest) for index in (0, 1))
    because = f"; dense stay {skipped}" if skipped else ""
    if kept < least:
        held = f", {fixed:,} stay in any case: excluded, skipped, or of a target of their own" if fixed else ""
        unit = "" if least == fixed + len(rest) else " unit of its structure"
        other = "other " if fixed else ""
        who = f"each of the {other}{len(rest)} tensors" if len(rest) > 1 else f"the {other}tensor"
        each = f", and {who} keeps at least one{unit}"
        raise RecipeError(
            f"prune {target.text} cannot be reached: it leaves {kept:,} of {total:,} weights{held}"
            f"{each if rest else ''}{because}",
            hint=f"the largest ratio that can be reached is {_ratio(total, least, most, largest=True)}{_finer(rest)}"
            if rest
            else _fixed_count(total, least),
        )
    if kept > most:
        raise RecipeError(
            f"prune {target.text} keeps {kept:,} of {total:,} weights, "
            f"but the targets of single tensors and the structures leave only {most:,}",
            hint=f"ask for {_ratio(total, least, most, largest=False)}, or relax the targets of single tensors"
            if rest
            else _fixed_count(total, most),
        )


def _fixed_count(total: int, kept: int) -> str:
    return f"leave prune out: structures and single targets alone keep {kept:,} weights, {total / kept:.4g}x"


def _finer(rest: Sequence[PruneWish]) -> str:
    structures = dict.fromkeys(wish.structure for wish in rest if wish.structure.in_multiples)
    most = max((structure.sizes[0] for structure in structures), default=1)
    finer = [f"{structure.kind}{most // 2}" for structure in structures if structure.sizes[0] == most]
    return f"; {' and '.join(finer)} can keep fewer channels" if most > 1 else ""
