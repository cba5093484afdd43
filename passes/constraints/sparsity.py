"""Cardinality constraints: at most so many weights differ from zero, and those that do lie in a structure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from passes.base import Constraint, Formats, Tensors
from passes.constraints.blocks import keep_blocks
from passes.constraints.budget import Budget
from passes.constraints.channels import keep_channels
from passes.constraints.groups import keep_groups
from passes.constraints.largest import keep_weights
from passes.constraints.n_of_m import keep_n_of_m
from passes.constraints.pattern import keep_patterns
from passes.constraints.scores import SCORES, Cut, Score, Target
from toolchain.formats import TensorFormat
from toolchain.graph.layout import Layout

# What chooses the masks of all tensors of a budget, by the kind of its structure.
SETS = {
    "unstructured": keep_weights,
    "column": keep_blocks,
    "block": keep_blocks,
    "n:m": keep_n_of_m,
    "pattern": keep_patterns,
    "groups": keep_groups,
    "channel": keep_channels,
    "filter": keep_channels,
}


@dataclass(frozen=True)
class TopK(Constraint):
    """The set of tensors with at most ``kept`` nonzeros per budget, in the budget's structure.

    ``argmin sum c (z - v)^2`` over it keeps the single weights or whole units with the largest sum of ``c v^2``. With
    ``score="magnitude"`` the metric c is 1, which is the Euclidean projection; ``"curvature"`` takes c as the root of
    the diagonal curvature estimate, so that weights that move the loss are worth more (a scale-free comparison of
    layers for single weights; units are compared relative to their tensor, see ``Score``); ``"lamp"`` divides what a
    weight or unit holds by the sum of what those at least as large hold in its tensor, so that no layer vanishes.

    Attributes:
        budgets: tensors and how much they keep.
        score: a key of ``SCORES``.
        layouts: by tensor name; single weights need none.
        costs: of keeping a weight, by tensor name, by which scores are divided; 1 where there is none.
        cuts: channels, by tensor name, where these are pruned.
    """

    budgets: tuple[Budget, ...]
    score: str = "magnitude"
    layouts: Mapping[str, Layout] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    cuts: Mapping[str, tuple[Cut, ...]] = field(default_factory=dict)

    def fit(self, weights: Tensors, fixed: Formats, curvature: Tensors) -> dict[str, TensorFormat]:
        """Return formats with masks that keep exactly the budgeted number of weights, or all that earlier passes left.

        Whole channels seldom add up to a number: of these as many are kept as it allows.

        Raises:
            ValueError: a budget does not suffice for one unit of each of its tensors.
        """
        formats: dict[str, TensorFormat] = {}
        for budget in self.budgets:
            targets = [self._target(name, weights[name].detach(), fixed, curvature) for name in budget.names]
            masks = SETS[budget.structure.kind](targets, budget.kept, budget.structure)
            for name, mask in zip(budget.names, masks, strict=True):
                earlier = fixed.get(name)
                formats[name] = TensorFormat(mask.contiguous(), earlier.grid if earlier else None)
        return formats

    def _target(self, name: str, weight: Tensor, fixed: Formats, curvature: Tensors) -> Target:
        earlier = fixed.get(name)
        known, score = curvature.get(name), SCORES[self.score]
        alive = torch.ones((), dtype=torch.bool, device=weight.device).expand(weight.shape)  # takes no memory
        if earlier is not None and earlier.mask is not None:
            alive = earlier.mask.to(weight.device)
        layout, cost = self.layouts.get(name), self.costs.get(name, 1.0)
        weigh = partial(_weigh, score, weight, known, earlier)
        return Target(weigh, alive, score.relative(known), score.relative_units, layout, cost, self.cuts.get(name, ()))


def _weigh(score: Score, weight: Tensor, curvature: Tensor | None, earlier: TensorFormat | None) -> Tensor:
    """Return what the set gains by each weight that it keeps.

    A weight that keeps only a level q of an earlier grid comes nearer by ``v^2 - (v - q)^2``, not by all of ``v^2``:
    with that the projection is the one onto the intersection of both sets.
    """
    if earlier is not None and earlier.grid is not None:
        level = earlier.grid.dequantize(earlier.grid.quantize(weight))
        weight = (level * (2 * weight - level)).clamp_min_(0.0).sqrt_()
    energy = score.energy(weight, curvature)
    if earlier is None or earlier.mask is None:
        return energy
    return energy.masked_fill_(~earlier.mask.to(weight.device), 0.0)
