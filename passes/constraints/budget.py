"""How many weights are kept, by which tensors together, and in which structure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from toolchain.structures import UNSTRUCTURED, Structure

USUAL_START = 0.75  # of the logarithm of the ratio


@dataclass(frozen=True)
class Budget:
    """A group of tensors that together keep exactly ``kept`` weights, at least one in each tensor.

    Attributes:
        names: initializer names.
        kept: how many weights stay.
        structure: which weights go together.
    """

    names: tuple[str, ...]
    kept: int
    structure: Structure = UNSTRUCTURED


def progressive(
    budgets: tuple[Budget, ...], sizes: Mapping[str, int], start: float | None, done: float
) -> tuple[Budget, ...]:
    """Return the budgets at progress ``done`` in 0..1: the ratio tightens geometrically from ``start`` to the target.

    Progressive targets are from arXiv 1903.09769, section 3; the geometric path is ours. Without a start it begins at
    three quarters of the way there, counted in logarithms: up to there little is lost, and the rest, where weights are
    dear, takes its time.
    """
    moved = []
    for budget in budgets:
        total = sum(sizes[name] for name in budget.names)
        ratio = total / budget.kept
        first = ratio**USUAL_START if start is None else min(start, ratio)
        current = first * (ratio / first) ** min(1.0, done)
        moved.append(replace(budget, kept=max(budget.kept, round(total / current))))
    return tuple(moved)
