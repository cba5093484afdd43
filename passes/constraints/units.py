"""Sparsity by units: weights that are kept or pruned together, under one count of kept weights for all tensors."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from passes.constraints.scores import Target, relative


@dataclass(frozen=True, eq=False)
class Units:
    """A tensor cut into units.

    Attributes:
        target: the tensor.
        numbers: int64, the tensor's shape: the unit of every weight, 0 to ``count`` - 1.
        count: how many units there are.
        within: a finer cut, by which the one unit that is kept in part is divided again; None for single weights.
    """

    target: Target
    numbers: Tensor
    count: int
    within: "Units | None" = None


def keep_units(cuts: Sequence[Units], kept: int) -> list[Tensor]:
    """Return masks that keep ``kept`` weights in all: whole units, and one unit in part where the count ends inside it.

    Keeping whole units of the largest total energy within the count is a knapsack; taking them by energy per weight is
    its exact solution where the count ends between two units, and otherwise misses at most the energy of one. So the
    cheapest error per removed weight is taken, also between units of different sizes. Every tensor keeps a unit.

    Raises:
        ValueError: the count does not suffice for one unit of every tensor.
    """
    energies = [_sums(cut, cut.target.energy) for cut in cuts]
    sizes = [_sums(cut, cut.target.alive) for cut in cuts]
    density = torch.cat([_density(cut, *pair) for cut, *pair in zip(cuts, energies, sizes, strict=True)])
    every = torch.cat(sizes)
    order = density.argsort(descending=True, stable=True)
    total = every[order].cumsum(0)
    if kept <= (int(total[len(cuts) - 2]) if len(cuts) > 1 else 0):
        raise ValueError(f"cannot keep {kept} weights in units of {len(cuts)} tensors, one unit of each at least")
    place = int(torch.searchsorted(total, kept, right=True))  # the first unit that does not fit
    whole = torch.zeros_like(density, dtype=torch.bool)
    whole[order[:place]] = True
    parts = torch.tensor_split(whole, _starts(cuts)[1:])
    masks = [chosen[cut.numbers] & cut.target.alive for cut, chosen in zip(cuts, parts, strict=True)]
    left = kept - (int(total[place - 1]) if place else 0)
    if left and place < len(order):
        _keep_part(cuts, masks, int(order[place]), left)
    return masks


def _starts(cuts: Sequence[Units]) -> list[int]:
    return [0, *accumulate(cut.count for cut in cuts[:-1])]


def _density(cut: Units, energy: Tensor, size: Tensor) -> Tensor:
    """Return what keeping each unit saves per weight; infinite for the best of the tensor, so that none vanishes."""
    saved = (relative(energy, size) if cut.target.relative_units else energy) / size.clamp_min(1)
    saved = torch.where(size > 0, saved, -1.0)
    saved[saved.argmax()] = torch.inf
    return saved


def _sums(cut: Units, values: Tensor) -> Tensor:
    """Return the sum over every unit, in float64: ``[count]``."""
    sums = torch.zeros(cut.count, dtype=torch.float64, device=values.device)
    return sums.index_add_(0, cut.numbers.reshape(-1), values.reshape(-1).to(torch.float64))


def _keep_part(cuts: Sequence[Units], masks: list[Tensor], unit: int, left: int) -> None:
    """Keep the largest ``left`` weights of one more unit, in place; its finer units first, if there are any."""
    starts = _starts(cuts)
    index = bisect_right(starts, unit) - 1
    cut = cuts[index]
    inside = (cut.numbers == unit - starts[index]) & cut.target.alive
    energy = torch.where(inside, cut.target.energy, 0.0)
    if cut.within is not None:
        finer = replace(
            cut.within, target=replace(cut.within.target, energy=energy, alive=inside, relative_units=False)
        )
        masks[index] |= keep_units([finer], left)[0]
        return
    best = torch.where(inside, energy, -1.0).flatten().argsort(descending=True, stable=True)[:left]
    part = torch.zeros(inside.numel(), dtype=torch.bool, device=inside.device).index_fill_(0, best, value=True)
    masks[index] |= part.view_as(inside)
