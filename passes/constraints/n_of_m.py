"""N:M sparsity: N of every M inputs in a row."""

from collections.abc import Sequence

import torch
from torch import Tensor

from passes.constraints.blocks import layout_of
from passes.constraints.largest import add_largest
from passes.constraints.scores import Target
from passes.constraints.stacks import from_stack, to_stack
from toolchain.structures import Structure


def keep_n_of_m(targets: Sequence[Target], kept: int, structure: Structure) -> list[Tensor]:
    """Return masks that solve ``argmin sum c (z - v)^2``: the N largest of every M inputs stay.

    Where more is to be kept than N of every M are, so many of the largest others stay as well.
    """
    n, m = structure.sizes
    masks = [_mask(target, n, m) for target in targets]
    others = max(0, kept - sum(target.alive.numel() * n // m for target in targets))
    return add_largest(masks, targets, others + sum(int(mask.sum()) for mask in masks))


def _mask(target: Target, n: int, m: int) -> Tensor:
    layout = layout_of(target)
    energy = to_stack(torch.where(target.alive, target.energy, -1.0), layout)
    matrices, outputs, inputs, positions = layout.stack
    rows = energy.reshape(matrices, outputs, inputs // m, m, positions)
    best = rows.argsort(dim=3, descending=True, stable=True)[:, :, :, :n]
    chosen = torch.zeros_like(rows, dtype=torch.bool).scatter_(3, best, value=True)
    return from_stack(chosen.reshape(layout.stack), layout) & target.alive
