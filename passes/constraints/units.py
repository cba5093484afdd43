"""Sparsity by units: weights that are kept or pruned together, under one count of kept weights for all tensors."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from passes.constraints.scores import Target, relative


@dataclass(frozen=True, eq=False)
class Units:
    """A tensor cut into units. Nothing here is as large as the tensor.

    Attributes:
        target: the tensor.
        energies: float64 ``[count]``: the sum over every unit.
        sizes: float64 ``[count]``: how many of its weights earlier passes left.
        spread: returns for bool ``[count]`` a mask of the tensor's shape, True in the units that are True.
        finer: cuts a target of this shape finer, by which the one unit that is kept in part is divided again; None for
            single weights.
    """

    target: Target
    energies: Tensor
    sizes: Tensor
    spread: Callable[[Tensor], Tensor]
    finer: "Callable[[Target], Units] | None" = None


def keep_units(cuts: Sequence[Units], kept: int) -> list[Tensor]:
    """Return masks that keep ``kept`` weights in all: whole units, and one unit in part where the count ends inside it.

    Keeping whole units of the largest total energy within the count is a knapsack; taking them by energy per weight is
    its exact solution where the count ends between two units, and otherwise misses at most the energy of one. So the
    cheapest error per removed weight is taken, also between units of different sizes. Every tensor keeps a unit.

    Raises:
        ValueError: the count does not suffice for one unit of every tensor.
    """
    density = torch.cat([_density(cut) for cut in cuts])
    every = torch.cat([cut.sizes for cut in cuts]).to(torch.int64)
    order = density.argsort(descending=True, stable=True)
    total = every[order].cumsum(0)
    if kept <= (int(total[len(cuts) - 2]) if len(cuts) > 1 else 0):
        raise ValueError(f"cannot keep {kept} weights in units of {len(cuts)} tensors, one unit of each at least")
    place = int(torch.searchsorted(total, kept, right=True))  # the first unit that does not fit
    whole = torch.zeros_like(density, dtype=torch.bool)
    whole[order[:place]] = True
    parts = torch.tensor_split(whole, _starts(cuts)[1:])
    masks = [cut.spread(chosen) & cut.target.alive for cut, chosen in zip(cuts, parts, strict=True)]
    left = kept - (int(total[place - 1]) if place else 0)
    if left and place < len(order):
        _keep_part(cuts, masks, int(order[place]), left)
    return masks


def _starts(cuts: Sequence[Units]) -> list[int]:
    return [0, *accumulate(len(cut.sizes) for cut in cuts[:-1])]


def _density(cut: Units) -> Tensor:
    """Return what keeping each unit saves per cost; infinite for the best of the tensor, so that none vanishes."""
    saved = relative(cut.energies, cut.sizes) if cut.target.relative_units else cut.energies
    saved = torch.where(cut.sizes > 0, saved / (cut.sizes.clamp_min(1) * cut.target.cost), -1.0)
    saved[saved.argmax()] = torch.inf
    return saved


def _keep_part(cuts: Sequence[Units], masks: list[Tensor], unit: int, left: int) -> None:
    """Keep the largest ``left`` weights of one more unit, in place; its finer units first, if there are any."""
    starts = _starts(cuts)
    index = bisect_right(starts, unit) - 1
    cut = cuts[index]
    only = torch.zeros_like(cut.sizes, dtype=torch.bool)
    only[unit - starts[index]] = True
    inside = cut.spread(only) & cut.target.alive
    if cut.finer is not None:
        energy = torch.where(inside, cut.target.energy, 0.0)
        rest = replace(cut.target, weigh=lambda: energy, alive=inside, relative_units=False)
        masks[index] |= keep_units([cut.finer(rest)], left)[0]
        return
    places = inside.reshape(-1).nonzero()[:, 0]
    best = cut.target.energy.reshape(-1)[places].argsort(descending=True, stable=True)[:left]
    part = torch.zeros(inside.numel(), dtype=torch.bool, device=inside.device)
    part[places[best]] = True
    masks[index] |= part.view(inside.shape)
