"""Channels: weights of several layers that are kept or pruned together, so that shapes shrink."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import gcd, prod

import torch
from torch import Tensor

from passes.constraints.scores import Cut, Target, relative
from toolchain.structures import Structure

REFILLS = 64  # of the channels pruned last, how many are tried again where the count leaves room


def keep_channels(targets: Sequence[Target], kept: int, structure: Structure) -> list[Tensor]:
    """Return masks that keep at most ``kept`` weights: whole channels, over all tensors that share them.

    Every group of channels keeps a multiple of the structure's size in positions, or all where it has no more, and
    never less than that. A channel is worth the energy of all slices that make or read it; with the kind ``"filter"``
    of those that make it alone, as in Li et al., "Pruning filters for efficient ConvNets", ICLR 2017, section 3.1,
    unless none of the targets makes it. Over groups, steps of so many channels are taken by worth per weight, the best
    first. Which set of channels holds most energy within a count is a quadratic knapsack, as two channels share the
    weights between them; this is its greedy solution.

    Raises:
        ValueError: the count does not suffice for what must stay.
    """
    steps = sorted(
        (step for group in _groups(targets) for step in _steps(targets, group, structure)),
        key=lambda step: step.worth,
    )
    tensors = [_Tensor.of(target) for target in targets]
    low, high = 0, len(steps)  # how many steps go; more of them leave fewer weights
    if _count(tensors, steps) > kept:
        raise ValueError(f"cannot keep {kept} weights in whole channels: {_count(tensors, steps)} must stay")
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _count(tensors, steps[:middle]) <= kept else (middle + 1, high)
    gone = steps[:low]
    return [
        tensor.mask(channels)
        for tensor, channels in zip(tensors, _gone(tensors, _refill(tensors, gone, kept)), strict=True)
    ]


def channels_per_step(cuts: Iterable[Cut], multiple: int) -> int:
    """Return how many channels of a group make a multiple of so many positions.

    Where all tensors have a channel as a run of neighbours, as a head of attention is, a few of them are a multiple.

    Args:
        cuts: all of the group.
        multiple: of positions.
    """
    return multiple // gcd(multiple, min(_run(cut.positions) for cut in cuts))


def _run(positions: Tensor) -> int:
    """Return how many positions of a channel are neighbours, if all are; else 1."""
    return positions.shape[1] if bool((positions.diff(dim=1) == 1).all()) else 1


@dataclass(frozen=True, eq=False)
class _Step:
    """Channels of a group that go at once, all before those of the next step of the group."""

    group: int
    channels: Tensor
    worth: float


def _groups(targets: Sequence[Target]) -> list[int]:
    return sorted({cut.group for target in targets for cut in target.cuts})


def _steps(targets: Sequence[Target], group: int, structure: Structure) -> list[_Step]:
    """Return the steps of a group, the least worth first; the channels that stay in any case are in none."""
    slices = [(target, cut) for target in targets for cut in target.cuts if cut.group == group]
    judged = [(target, cut) for target, cut in slices if cut.makes] if structure.kind == "filter" else []
    energy = torch.stack([_along(target.energy, cut) for target, cut in judged or slices]).sum(0)
    size = torch.stack([target.cost * _along(target.alive, cut) for target, cut in slices]).sum(0)
    multiple = channels_per_step((cut for _, cut in slices), structure.sizes[0])
    order = (energy / size.clamp_min(1e-30)).argsort(descending=True, stable=True).flip(0)
    count = len(order)
    if count <= multiple:
        return []
    sizes = [(count - 1) % multiple + 1, *[multiple] * ((count - 1) // multiple)]
    parts = torch.split(order, sizes)
    energies = torch.stack([energy[part].sum() for part in parts])
    weights = torch.stack([size[part].sum() for part in parts])
    is_relative = any(target.relative_units for target in targets)
    worth = (relative(energies, weights) if is_relative else energies) / weights.clamp_min(1e-30)
    rising = worth.cummax(0).values.tolist()
    return [_Step(group, part, value) for part, value in zip(parts[:-1], rising, strict=False)]


def _along(values: Tensor, cut: Cut) -> Tensor:
    """Return the sum over all that every channel has of a tensor: float64."""
    rows = values.movedim(cut.axis, 0).flatten(1).sum(1, dtype=torch.float64)
    return rows[cut.positions.to(rows.device)].sum(1)


@dataclass(frozen=True, eq=False)
class _Tensor:
    """A target and how many weights of it are left."""

    target: Target
    is_full: bool

    @classmethod
    def of(cls, target: Target) -> "_Tensor":
        return cls(target, bool(target.alive.all()))

    def stays(self, gone: dict[int, Tensor]) -> dict[int, Tensor]:
        """Return, by dimension that is cut, which positions stay."""
        found: dict[int, Tensor] = {}
        for cut in self.target.cuts:
            stays = found.setdefault(cut.axis, torch.ones(self.target.alive.shape[cut.axis], dtype=torch.bool))
            if cut.group in gone:
                stays[cut.positions[gone[cut.group].cpu()].flatten()] = False
        return found

    def mask(self, stays: dict[int, Tensor]) -> Tensor:
        """Return the weights that are kept."""
        mask = self.target.alive.clone()
        for axis, keep in stays.items():
            mask &= keep.to(mask.device).reshape([-1 if axis == other else 1 for other in range(mask.ndim)])
        return mask

    def count(self, stays: dict[int, Tensor]) -> int:
        """Return how many weights are kept."""
        if not self.is_full:
            return int(self.mask(stays).sum())
        shape = self.target.alive.shape
        return prod(int(stays[axis].sum()) if axis in stays else size for axis, size in enumerate(shape))


def _gone(tensors: Sequence[_Tensor], steps: Sequence[_Step]) -> list[dict[int, Tensor]]:
    by_group: dict[int, list[Tensor]] = {}
    for step in steps:
        by_group.setdefault(step.group, []).append(step.channels)
    gone = {group: torch.cat(parts) for group, parts in by_group.items()}
    return [tensor.stays(gone) for tensor in tensors]


def _count(tensors: Sequence[_Tensor], steps: Sequence[_Step]) -> int:
    return sum(tensor.count(stays) for tensor, stays in zip(tensors, _gone(tensors, steps), strict=True))


def _refill(tensors: Sequence[_Tensor], gone: Sequence[_Step], kept: int) -> list[_Step]:
    """Return the steps without those that still fit, the best first; a group takes back what it lost last."""
    left, closed = list(gone), set()
    for step in list(reversed(gone))[:REFILLS]:
        if step.group in closed:
            continue
        fewer = [other for other in left if other is not step]
        if _count(tensors, fewer) <= kept:
            left = fewer
        else:
            closed.add(step.group)
    return left
