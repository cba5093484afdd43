"""Modules without channels: what was trained is kept, cut as the graph is."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from toolchain.channels.dead import Dead, Stay, find_dead
from toolchain.channels.groups import Channels, find_channels
from toolchain.channels.shrink import kept_positions, remove_channels
from toolchain.channels.space import Axis
from toolchain.channels.trace import trace
from toolchain.formats import Grid
from toolchain.graph import Graph
from toolchain.module import OnnxModule

Sample = Mapping[str, Tensor | np.ndarray]


def dead_channels(module: OnnxModule, channels: Channels, sample: Sample, stay: Stay) -> Dead:
    """Return which channels of a module can be removed so that it computes what it did.

    Args:
        module: in evaluation mode, with any weights and formats.
        channels: of its graph.
        sample: an array per graph input.
        stay: how many channels of a group stay, by how many of them are needed.
    """
    tensors = {**module.weights(), **module.buffers_by_name()}
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}

    def run(names: list[str]) -> dict[str, np.ndarray]:
        with torch.no_grad():
            return {name: value.cpu().numpy() for name, value in module.run(sample, names).items()}

    return find_dead(channels, arrays, run, stay)


@torch.no_grad()
def shrink_module(
    module: OnnxModule, channels: Channels, removed: Mapping[str, Sequence[int] | np.ndarray]
) -> OnnxModule:
    """Return a module without some channels; the rest of its tensors and formats is what it was.

    Its graph is that of ``module`` without them, with the values that the graph has.

    Raises:
        ModelError: a channel cannot be removed.
    """
    kept = kept_positions(channels, removed)
    small = OnnxModule(remove_channels(module.graph, channels, removed)).to(module.device)
    small.train(module.training)
    before = {**module.weights(), **module.buffers_by_name()}
    for name, tensor in {**small.weights(), **small.buffers_by_name()}.items():
        if name in before:  # the others are constants that nodes were given for their new sizes
            tensor.copy_(_cut(before[name], name, kept))
    for name, tensor_format in module.formats.items():
        mask, grid = tensor_format.mask, tensor_format.grid
        small.formats[name] = replace(
            tensor_format,
            mask=None if mask is None else _cut(mask, name, kept).contiguous(),
            grid=None if grid is None else _cut_grid(grid, name, kept),
        )
    return small


def replay(graph: Graph, sample: Sample, removals: Sequence[Mapping[str, Sequence[int]]]) -> OnnxModule:
    """Return the module that is left of ``graph`` after removals, one after the other."""
    module = OnnxModule(graph).eval()
    for removed in removals:
        module = shrink_module(module, find_channels(trace(module, sample)), removed)
    return module


def _cut(tensor: Tensor, name: str, kept: Mapping[Axis, np.ndarray]) -> Tensor:
    for axis in range(tensor.ndim):
        if (name, axis) in kept:
            places = torch.from_numpy(np.flatnonzero(kept[name, axis])).to(tensor.device)
            tensor = tensor.index_select(axis, places)
    return tensor


def _cut_grid(grid: Grid, name: str, kept: Mapping[Axis, np.ndarray]) -> Grid:
    """Return the grid for what is left of a tensor; one scale for all of it stays.

    Raises:
        ValueError: values leave the blocks that share a scale.
    """
    if grid.block_size and any(tensor == name and axis != grid.axis for tensor, axis in kept):
        raise ValueError(f"{name!r} has a scale per block of {grid.block_size} values, some of which are to go")
    if grid.axis is None or (name, grid.axis) not in kept:
        return grid
    places = torch.from_numpy(np.flatnonzero(kept[name, grid.axis])).to(grid.scale.device)
    zero = grid.zero_point
    return replace(grid, scale=grid.scale[places], zero_point=zero[places] if isinstance(zero, Tensor) else zero)
