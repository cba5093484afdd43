"""Gathered groups: every group of output channels keeps input channels of its own.

A layer of this structure runs as a Gather of channels and a smaller grouped convolution or batched product, local to
the layer. Which outputs share a group is part of the choice: outputs that need the same inputs belong together.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from passes.constraints.blocks import layout_of
from passes.constraints.scores import Target
from passes.constraints.stacks import from_stack, to_stack
from passes.constraints.units import Units, keep_units
from toolchain.graph.layout import Layout
from toolchain.grouping import find_groups
from toolchain.structures import Structure, group_count

ROUNDS = 6  # of alternating supports and groups; the energy that is kept hardly grows after four


def keep_groups(targets: Sequence[Target], kept: int, structure: Structure) -> list[Tensor]:
    """Return masks that keep in every group of outputs the input channels of largest energy.

    All groups of a tensor keep equally many channels, in steps that fill the runtime's kernels. Given who is in which
    group, that is the projection for one tensor; over tensors, steps are taken by energy per weight, so that a tensor
    whose channels are worth more keeps more of them. The last step may be kept in part: then zeros inside the channels
    can leave open which outputs were together, and projecting again may lose a few weights.
    """
    density, multiple = kept / sum(target.alive.numel() for target in targets), structure.sizes[0]
    groups = _find_groups(targets, density, multiple)
    return keep_units([_cut(target, group, multiple) for target, group in zip(targets, groups, strict=True)], kept)


def _cut(target: Target, group: Tensor, multiple: int) -> Units:
    """Return the tensor cut into steps of equally many channels for every group, the best first."""
    layout = layout_of(target)
    inputs, count = layout.stack[2], group_count(layout)
    step = min(multiple, inputs)
    channels = _cut_channels(target, group)
    order = channels.energies.view(count, inputs).argsort(dim=1, descending=True, stable=True)
    ranks = torch.empty_like(order).scatter_(1, order, torch.arange(inputs, device=order.device).expand_as(order))
    steps = ranks.flatten() // step
    empty = channels.energies.new_zeros(-(-inputs // step))
    return Units(
        target,
        empty.index_add(0, steps, channels.energies),
        empty.index_add(0, steps, channels.sizes),
        lambda chosen: channels.spread(chosen[steps]),
        lambda rest: _cut_channels(rest, group),
    )


def _find_groups(targets: Sequence[Target], density: float, multiple: int) -> list[Tensor]:
    """Return for every target the group of each output, int64 ``[outputs]``.

    That is the group in which outputs are already, else the best for them. Tensors whose outputs are added share it:
    then sums are computed in the order of the groups, and what is added is put in order once.
    """
    streams: dict[tuple[str | int, int], list[int]] = {}
    for index, target in enumerate(targets):
        layout = layout_of(target)
        streams.setdefault((layout.stream or index, layout.stack[1]), []).append(index)
    found: dict[int, Tensor] = {}
    for members in streams.values():
        together = [targets[index] for index in members]
        known = [_present_groups(target) for target in together]
        shared = next((group for group in known if group is not None), None)
        if shared is None:
            shared = _best_groups(together, density, multiple)
        found |= {index: shared if own is None else own for index, own in zip(members, known, strict=True)}
    return [found[index] for index in range(len(targets))]


def _present_groups(target: Target) -> Tensor | None:
    layout = layout_of(target)
    return find_groups(_by_channel(target.energy > 0, layout), group_count(layout))


def _best_groups(targets: Sequence[Target], density: float, multiple: int) -> Tensor:
    """Return the groups that hold most energy of some tensors with equally many outputs."""
    layouts = [layout_of(target) for target in targets]
    steps = [min(multiple, layout.stack[2]) for layout in layouts]
    kept = sum(
        max(step, round(layout.stack[2] * density / step) * step) for layout, step in zip(layouts, steps, strict=True)
    )
    energies = [_by_channel(target.energy, layout) for target, layout in zip(targets, layouts, strict=True)]
    energy = energies[0] if len(energies) == 1 else torch.cat(energies, 1)  # one copy of a large tensor is enough
    return assign_groups(energy, group_count(layouts[0]), kept)


def _cut_channels(target: Target, group: Tensor) -> Units:
    """Return the tensor cut into the channels of every group."""
    layout = layout_of(target)
    count = int(group.max()) + 1
    energies = _by_group(_by_channel(target.energy, layout), group, count)
    sizes = _by_group(_by_channel(target.alive, layout), group, count)
    return Units(target, energies.flatten(), sizes.flatten(), partial(_spread, group=group, layout=layout))


def _by_channel(values: Tensor, layout: Layout) -> Tensor:
    """Return the sums over the kernel's positions: ``[outputs, inputs]``."""
    stack = to_stack(values, layout)[0]
    return stack[:, :, 0] if stack.shape[2] == 1 else stack.sum(2)


def _by_group(values: Tensor, group: Tensor, count: int) -> Tensor:
    """Return the sums over the outputs of every group, float64: ``[count, inputs]``."""
    return torch.stack([values[group == index].sum(0, dtype=torch.float64) for index in range(count)])


def _spread(chosen: Tensor, group: Tensor, layout: Layout) -> Tensor:
    """Return the channels that are chosen for every group, bool ``[count * inputs]``, as a mask of the tensor."""
    rows = chosen.view(-1, layout.stack[2])[group]
    return from_stack(rows[None, :, :, None].expand(layout.stack), layout)


def assign_groups(energy: Tensor, count: int, kept: int) -> Tensor:
    """Return the group of every output, int64 ``[outputs]``, so that ``kept`` channels per group hold most energy.

    Alternates, as k-means does, the channels that are best for a group's outputs and the groups that are best for an
    output, groups being equally large; from neighbouring outputs, and from outputs that are least alike.

    Args:
        energy: ``[outputs, inputs]``.
        count: of groups; divides the outputs.
        kept: channels per group.
    """
    outputs = len(energy)
    neighbours = torch.arange(outputs, device=energy.device) // (outputs // count)
    if count == 1:
        return neighbours
    best, most = neighbours, -1.0
    for start in (neighbours, fill_groups(energy @ _unlike(energy, count, kept).T)):
        group, before = start, -1.0
        for _ in range(ROUNDS):
            supports, held = _supports(energy, group, count, kept)
            if held > most:
                best, most = group, held
            if held <= before:
                break
            before, group = held, fill_groups(energy @ supports.T)
    return best


def _supports(energy: Tensor, group: Tensor, count: int, kept: int) -> tuple[Tensor, float]:
    """Return the best channels of every group, 0 or 1, ``[count, inputs]``, and the energy that they hold."""
    sums = energy.new_zeros(count, energy.shape[1]).index_add_(0, group, energy)
    supports = _largest(sums, kept)
    return supports, float((sums * supports).sum(dtype=torch.float64))


def _largest(values: Tensor, kept: int) -> Tensor:
    best = values.argsort(dim=1, descending=True, stable=True)[:, :kept]
    return torch.zeros_like(values).scatter_(1, best, 1.0)


def _unlike(energy: Tensor, count: int, kept: int) -> Tensor:
    """Return the best channels of ``count`` outputs, each of which the earlier ones serve worst."""
    total = energy.sum(1)
    chosen = [_largest(energy[total.argmax()][None], kept)]
    served = energy @ chosen[0][0]
    while len(chosen) < count:
        chosen.append(_largest(energy[(total - served).argmax()][None], kept))
        served = torch.maximum(served, energy @ chosen[-1][0])
    return torch.cat(chosen)


def fill_groups(worth: Tensor) -> Tensor:
    """Return a group for every output by its worth there, ``[outputs, groups]``; all groups get equally many.

    In every round each output that is still free asks for its best group that has room, and each group takes those
    that would lose most by going elsewhere.
    """
    outputs, count = worth.shape
    room = torch.full((count,), outputs // count, device=worth.device)
    group = torch.full((outputs,), -1, device=worth.device)
    while bool((group < 0).any()):
        free = (group < 0).nonzero().flatten()
        open_worth = worth[free].masked_fill(room == 0, -torch.inf)
        best, wanted = open_worth.max(1)
        other = open_worth.scatter(1, wanted[:, None], -torch.inf).amax(1)
        loss = torch.where(torch.isinf(other), torch.inf, best - other)
        for index in range(count):
            asking = free[wanted == index]
            taken = asking[loss[wanted == index].argsort(descending=True, stable=True)[: int(room[index])]]
            group[taken] = index
            room[index] -= len(taken)
    return group
