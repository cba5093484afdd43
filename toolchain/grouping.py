"""Finds the groups of outputs that read the same input channels, from where a weight's zeros lie."""

import torch
from torch import Tensor


def find_groups(support: Tensor, count: int) -> Tensor | None:
    """Return the group of every output, int64 ``[outputs]``, or None where the zeros lie in no groups.

    Groups are numbered in the order in which outputs meet them.

    An output may read fewer channels than its group. Groups are equally large, and some channel is read by no output of
    some group: otherwise every division would do.

    Args:
        support: bool ``[outputs, inputs]``: which channels an output reads.
        count: of groups; divides the outputs.
    """
    outputs, inputs = support.shape
    sizes = support.sum(1)
    # In groups, outputs read as many channels as their group, or fewer in the one channel that is kept in part.
    if bool(support.all()) or len(torch.unique(sizes)) > 2 * count + 1:
        return None
    weights = torch.rand(inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(support.device)
    sums = torch.cat([rows.to(torch.float64) @ weights for rows in torch.split(support, 512)])
    _, kind = torch.unique(sums, return_inverse=True)  # rows alike have the same sum
    order = torch.argsort(sizes * outputs + kind, descending=True, stable=True)  # large supports first, alike together
    room = torch.full((count,), outputs // count, device=support.device)
    read = torch.zeros(count, inputs, dtype=torch.bool, device=support.device)
    group = torch.full((outputs,), -1, device=support.device)
    _, alike = torch.unique_consecutive(kind[order], return_counts=True)
    for rows in torch.split(order, alike.tolist()):
        if not _place(rows, support[rows[0]], group, room, read):
            return None
    if bool(read.all()):
        return None
    first = torch.stack([(group == index).to(torch.uint8).argmax() for index in range(count)])
    return first.argsort().argsort()[group]


def _place(rows: Tensor, needs: Tensor, group: Tensor, room: Tensor, read: Tensor) -> bool:
    """Put outputs that read the same channels into groups that read them all or nothing yet; return whether they fit.

    Changes ``group``, ``room`` and ``read`` in place.
    """
    left = rows
    while len(left):
        fits = (room > 0) & ((read & needs).sum(1) == needs.sum())
        fits = fits if bool(fits.any()) else (room > 0) & ~read.any(1)
        if not bool(fits.any()):
            return False
        index = int(fits.to(torch.uint8).argmax())
        placed, left = left[: int(room[index])], left[int(room[index]) :]
        group[placed] = index
        room[index] -= len(placed)
        read[index] |= needs
    return True
