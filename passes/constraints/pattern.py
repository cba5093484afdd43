"""Kernel patterns with connectivity: few shapes of kernels, and few kernels (PatDNN, ASPLOS 2020, section 4)."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations

import torch
from torch import Tensor

from passes.constraints.blocks import cut_into_blocks, layout_of
from passes.constraints.largest import add_largest
from passes.constraints.scores import Target
from passes.constraints.stacks import from_stack, to_stack
from passes.constraints.units import keep_units
from toolchain.structures import PATTERN_SIZE, Structure

LIBRARY_SIZE = 8
POSITIONS = 9


def keep_patterns(targets: Sequence[Target], kept: int, structure: Structure) -> list[Tensor]:
    """Return masks in which every 3x3 kernel keeps the best of 8 patterns of 4 positions, or nothing.

    Given the library, both choices at once are the projection onto their intersection: every kernel takes the pattern
    that holds most of its energy, then the kernels whose patterns hold most are kept. Where more is to be kept than all
    patterns hold, so many of the largest other weights stay as well.
    """
    kernels = [to_stack(t.energy, layout_of(t)).reshape(-1, POSITIONS) for t in targets]
    library = find_library(torch.cat(kernels))
    shaped = []
    for target, energy in zip(targets, kernels, strict=True):
        layout = layout_of(target)
        best = (energy @ library.T.to(energy.dtype)).argmax(1)
        inside = from_stack(library[best].reshape(layout.stack), layout) & target.alive
        shaped.append(replace(target, weigh=partial(_inside, target, inside), alive=inside))
    held = sum(int(target.alive.sum()) for target in shaped)
    masks = keep_units([cut_into_blocks(target, structure) for target in shaped], min(kept, held))
    others = max(0, kept - PATTERN_SIZE * sum(len(energy) for energy in kernels))
    return add_largest(masks, targets, others + sum(int(mask.sum()) for mask in masks))


def _inside(target: Target, mask: Tensor) -> Tensor:
    return torch.where(mask, target.energy, 0.0)


def find_library(kernels: Tensor) -> Tensor:
    """Return the patterns that most kernels take by themselves: bool ``[8, 9]``, in the order of their frequency.

    Of kernels ``[n, 9]`` of energies, those with at least 4 nonzeros have a pattern: their 4 largest. Where fewer than
    8 patterns occur, those follow that hold most of what is still outside.
    """
    every = _every_pattern().to(kernels.device)
    full = kernels[(kernels > 0).sum(1) >= PATTERN_SIZE]
    own = torch.zeros_like(full, dtype=torch.int64)
    own.scatter_(1, full.argsort(dim=1, descending=True, stable=True)[:, :PATTERN_SIZE], 1)
    powers = 2 ** torch.arange(POSITIONS, device=kernels.device)
    # Sums of products: CUDA has no products of integer matrices.
    counts = torch.bincount((own * powers).sum(1), minlength=2**POSITIONS)[(every * powers).sum(1)]
    order = counts.argsort(descending=True, stable=True)[:LIBRARY_SIZE]
    found = [int(index) for index in order if counts[index]]
    if len(found) < LIBRARY_SIZE:
        _complete(found, kernels, every)
    return every[found]


def _complete(found: list[int], kernels: Tensor, every: Tensor) -> None:
    """Add patterns, each the one that gains most, until there are 8."""
    weights = every.T.to(kernels.dtype)
    held = (kernels @ weights[:, found]).amax(1) if found else kernels.new_zeros(len(kernels))
    outside = held < kernels.sum(1) * (1 - 1e-6)
    by_pattern, held = kernels[outside] @ weights, held[outside]
    while len(found) < LIBRARY_SIZE:
        gains = (by_pattern - held[:, None]).clamp_min(0).sum(0)
        gains[found] = -1.0
        found.append(int(gains.argmax()))
        held = torch.maximum(held, by_pattern[:, found[-1]])


def _every_pattern() -> Tensor:
    """Return all 126 choices of 4 positions: bool ``[126, 9]``."""
    chosen = torch.tensor(list(combinations(range(POSITIONS), PATTERN_SIZE)))
    return torch.zeros(len(chosen), POSITIONS, dtype=torch.bool).scatter_(1, chosen, value=True)
