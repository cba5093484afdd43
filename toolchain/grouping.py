"""Finds the groups of outputs that read the same input channels, from where a weight's zeros lie."""

import torch
from torch import Tensor


def find_groups(read: Tensor, count: int) -> Tensor | None:
    """Return the group of every output, int64 ``[outputs]``, or None where the zeros lie in no groups.

    Groups are numbered in the order in which outputs meet them.

    An output may read fewer channels than its group. Groups are equally large, and some channel is read by no output of
    some group: otherwise every division would do.

    Args:
        read: ``[outputs, inputs]``: with how many weights an output reads a channel, or whether it does.
        count: of groups; divides the outputs.
    """
    support = read > 0
    outputs, inputs = support.shape
    sizes, weights = support.sum(1), read.sum(1)
    # In groups, outputs read as many channels as their group, or fewer in the one channel that is kept in part.
    if bool(support.all()) or len(torch.unique(sizes)) > 2 * count + 1:
        return None
    code = torch.rand(inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(support.device)
    sums = torch.cat([rows.to(torch.float64) @ code for rows in torch.split(support, 512)])
    _, kind = torch.unique(sums, return_inverse=True)  # rows alike have the same sum
    # Large supports first, alike together; of these, those last whose weights are kept in part: the rest of a group.
    order = torch.argsort(weights, descending=True, stable=True)
    order = order[torch.argsort((sizes * outputs + kind)[order], descending=True, stable=True)]
    room = torch.full((count,), outputs // count, device=support.device)
    union = torch.zeros(count, inputs, dtype=torch.bool, device=support.device)
    group = torch.full((outputs,), -1, device=support.device)
    _, alike = torch.unique_consecutive(kind[order], return_counts=True)
    for rows in torch.split(order, alike.tolist()):
        if not _place(rows, support[rows[0]], group, room, union):
            return None
    if bool(union.all()):
        return None
    first = torch.stack([(group == index).to(torch.uint8).argmax() for index in range(count)])
    return first.argsort().argsort()[group]


def _place(rows: Tensor, needs: Tensor, group: Tensor, room: Tensor, union: Tensor) -> bool:
    """Put outputs that read the same channels into groups that read them all or nothing yet; return whether they fit.

    As many as fill groups get some of their own where there are any, so that those stay together which belong together:
    room beside an output that reads more may be another group's. Changes ``group``, ``room`` and ``union`` in place.
    """
    left, size = rows, len(group) // len(room)
    while len(left):
        empty = room == size
        fits = (room > 0) & ((union & needs).sum(1) == needs.sum())
        if bool(empty.any()) and (len(left) >= size or not bool(fits.any())):
            fits = empty
        if not bool(fits.any()):
            return False
        index = int(fits.to(torch.uint8).argmax())
        placed, left = left[: int(room[index])], left[int(room[index]) :]
        group[placed] = index
        room[index] -= len(placed)
        union[index] |= needs
    return True
