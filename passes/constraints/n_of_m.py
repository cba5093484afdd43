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

    Where more is to be kept, so many of the largest others stay as well.
    """
    return add_largest([_mask(target, *structure.sizes) for target in targets], targets, kept)


def _mask(target: Target, kept: int, of: int) -> Tensor:
    layout = layout_of(target)
    energy = to_stack(torch.where(target.alive, target.energy, -1.0), layout)
    matrices, outputs, inputs, positions = layout.stack
    rows = energy.reshape(matrices, outputs, inputs // of, of, positions)
    best = rows.argsort(dim=3, descending=True, stable=True)[:, :, :, :kept]
    chosen = torch.zeros_like(rows, dtype=torch.bool).scatter_(3, best, value=True)
    return from_stack(chosen.reshape(layout.stack), layout) & target.alive
