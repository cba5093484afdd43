"""Columns and blocks: weights that are neighbours in a tensor."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from passes.constraints.scores import Target
from passes.constraints.stacks import from_stack, to_stack
from passes.constraints.units import Units, keep_units
from toolchain.graph.layout import Layout
from toolchain.structures import Structure, unit_extent


def keep_blocks(targets: Sequence[Target], kept: int, structure: Structure) -> list[Tensor]:
    """Return masks of the blocks of largest energy per weight; the last block of a dimension may be smaller."""
    return keep_units([cut_into_blocks(target, structure) for target in targets], kept)


def cut_into_blocks(target: Target, structure: Structure) -> Units:
    """Return the tensor cut into the structure's blocks."""
    layout = layout_of(target)
    extent = (1, *unit_extent(structure, layout))
    energies, sizes = (sum_blocks(to_stack(values, layout), extent) for values in (target.energy, target.alive))
    spread = partial(_spread, shape=tuple(energies.shape), extent=extent, layout=layout)
    return Units(target, energies.flatten(), sizes.flatten(), spread)


def sum_blocks(values: Tensor, extent: Sequence[int]) -> Tensor:
    """Return the sums over blocks of so many values along every dimension, float64; the last ones may be smaller."""
    for axis, (size, step) in enumerate(zip(values.shape, extent, strict=True)):
        if step == 1:
            continue
        if size % step == 0:
            blocks = values.reshape(*values.shape[:axis], -1, step, *values.shape[axis + 1 :])
            values = blocks.sum(axis + 1, dtype=torch.float64)
        else:
            sums = values.new_zeros(*values.shape[:axis], -(-size // step), *values.shape[axis + 1 :]).double()
            values = sums.index_add_(axis, torch.arange(size, device=values.device) // step, values.double())
    return values.double()


def _spread(chosen: Tensor, shape: tuple[int, ...], extent: Sequence[int], layout: Layout) -> Tensor:
    """Return what is chosen by block, bool ``[blocks]``, as a mask of the tensor."""
    values = chosen.view(shape)
    for axis, (size, step) in enumerate(zip(layout.stack, extent, strict=True)):
        if step > 1:
            values = values.repeat_interleave(step, axis).narrow(axis, 0, size)
    return from_stack(values, layout)


def layout_of(target: Target) -> Layout:
    """Return the target's layout.

    Raises:
        ValueError: it has none.
    """
    if target.layout is None:
        raise ValueError("this structure needs to know which dimensions are inputs and outputs")
    return target.layout
