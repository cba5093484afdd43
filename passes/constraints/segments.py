"""The kept values of a tensor, those that share a scale one after the other."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name the whole field uses
from torch import Tensor

# A sample of large tensors is enough to choose a start by: so many values in all, or so many per segment.
ENOUGH = 32768
ENOUGH_PER_SEGMENT = 256


@dataclass(frozen=True, eq=False)
class Segments:
    """Values that share a scale, per scale.

    Attributes:
        values: ``[K]``, segment by segment.
        lengths: ``[S]``, how many values each segment has.
        shape: of the scales: ``()``, ``(C,)`` or ``(C, blocks)``.
        even: how many values every segment has, where all have as many; else 0.
    """

    values: Tensor
    lengths: Tensor
    shape: tuple[int, ...]
    even: int = 0

    def spread(self, of_segments: Tensor) -> Tensor:
        """Return ``[K]`` with the entry of ``[S]`` that each value belongs to."""
        if self.even:
            return of_segments[:, None].expand(-1, self.even).reshape(-1)
        return of_segments.repeat_interleave(self.lengths, output_size=len(self.values))

    def sums(self, values: Tensor) -> Tensor:
        """Return the sum per segment ``[S]`` of ``values`` in the place of those here."""
        if self.even:
            return values.reshape(-1, self.even).sum(1)
        return torch.segment_reduce(values, "sum", lengths=self.lengths, initial=0.0)

    def thinned(self) -> "Segments":
        """Return every n-th value: enough to choose a start by."""
        count = len(self.lengths)
        step = max(1, len(self.values) // max(ENOUGH, ENOUGH_PER_SEGMENT * count))
        if step == 1:
            return self
        if self.even:
            kept = self.values.reshape(count, -1)[:, ::step]
            each = kept.shape[1]
            return Segments(kept.reshape(-1), torch.full_like(self.lengths, each), self.shape, each)
        segment = self.spread(torch.arange(count, device=self.values.device))[::step]
        return Segments(self.values[::step].contiguous(), torch.bincount(segment, minlength=count), self.shape)

    def parts(self, most: int) -> Iterator["Segments"]:
        """Yield the segments in order, some at a time: at most ``most`` values, or one segment."""
        ends = self.lengths.cumsum(0).tolist()
        first = 0
        while first < len(ends):
            start = ends[first - 1] if first else 0
            last = first + 1
            while last < len(ends) and ends[last] - start <= most:
                last += 1
            yield Segments(self.values[start : ends[last - 1]], self.lengths[first:last], (last - first,))
            first = last


def gather(weight: Tensor, mask: Tensor | None, axis: int | None, block_size: int) -> Segments:
    """Return what ``mask`` keeps of a tensor, by index of ``axis`` and by block, where that has a size."""
    rows = _rows(weight, axis)
    kept = None if mask is None else _rows(mask, axis)
    count, length = rows.shape
    shape: tuple[int, ...] = () if axis is None else (count,)
    if block_size:
        blocks = -(-length // block_size)
        missing = blocks * block_size - length
        if missing:
            kept = F.pad(torch.ones_like(rows, dtype=torch.bool) if kept is None else kept, (0, missing))
            rows = F.pad(rows, (0, missing))
        shape, rows = (count, blocks), rows.reshape(-1, block_size)
        kept = None if kept is None else kept.reshape(-1, block_size)
    if kept is None:
        length = rows.shape[1]
        return Segments(rows.reshape(-1), torch.full((len(rows),), length, device=rows.device), shape, length)
    return Segments(rows[kept], kept.sum(1), shape)


def _rows(values: Tensor, axis: int | None) -> Tensor:
    return values.reshape(1, -1) if axis is None else values.movedim(axis, 0).flatten(1)
