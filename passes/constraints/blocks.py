"""Filters, columns and blocks: weights that are neighbours in a tensor."""

from collections.abc import Sequence

import torch
from torch import Tensor

from passes.constraints.scores import Target
from passes.constraints.stacks import from_stack
from passes.constraints.units import Units, keep_units
from toolchain.graph.layout import Layout
from toolchain.structures import Structure, unit_extent


def keep_blocks(targets: Sequence[Target], kept: int, structure: Structure) -> list[Tensor]:
    """Return masks of the blocks of largest energy per weight; the last block of a dimension may be smaller."""
    return keep_units([cut_into_blocks(target, structure) for target in targets], kept)


def cut_into_blocks(target: Target, structure: Structure) -> Units:
    """Return the tensor cut into the structure's blocks."""
    layout = layout_of(target)
    numbers, count = number_blocks(layout, unit_extent(structure, layout), target.alive.device)
    return Units(target, from_stack(numbers, layout), count)


def number_blocks(layout: Layout, extent: tuple[int, int, int], device: torch.device) -> tuple[Tensor, int]:
    """Return the block of every weight, int64 ``[stack, outputs, inputs, positions]``, and how many there are."""
    numbers, count = torch.zeros(1, dtype=torch.int64, device=device), 1
    for axis, (size, step) in enumerate(zip(layout.stack, (1, *extent), strict=True)):
        blocks = -(-size // step)
        along = torch.arange(size, device=device) // step
        numbers = numbers.unsqueeze(-1) * blocks + along if axis else along
        count *= blocks
    return numbers, count


def layout_of(target: Target) -> Layout:
    """Return the target's layout.

    Raises:
        ValueError: it has none.
    """
    if target.layout is None:
        raise ValueError("this structure needs to know which dimensions are inputs and outputs")
    return target.layout
