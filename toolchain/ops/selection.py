"""Operators whose results are as long as the values make them: what is kept, what is different, where something is."""

from math import isqrt

import torch
from torch import Tensor

from toolchain.ops.indexing import scatter_elements
from toolchain.ops.registry import op

# How many pairs of boxes are compared at once.
_PAIRS = 1 << 16


@op("NonZero", since=9)
def non_zero(x: Tensor) -> Tensor:
    """The indices of all elements but zeros: ``[rank, elements]``; a single number has one index."""
    return (x if x.ndim else x[None]).nonzero().T.contiguous()


@op("Compress", since=9)
def compress(x: Tensor, condition: Tensor, *, axis: int | None = None) -> Tensor:
    """The slices along ``axis``, or the elements, for which ``condition`` holds; it may be shorter than the axis."""
    if axis is None:
        x, axis = x.flatten(), 0
    return x.index_select(axis, condition.nonzero()[:, 0])


@op("Unique", since=11)
def unique(x: Tensor, *, axis: int | None = None, sorted: int = 1) -> tuple[Tensor, ...]:  # noqa: A002 - ONNX name
    """What differs among elements, or slices along ``axis``: each, its first place, each input's number, its count."""
    if axis is None:
        x, axis = x.flatten(), 0
    length = x.shape[axis]
    _, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True, dim=axis)
    steps = torch.arange(length, device=x.device)
    first = torch.full_like(counts, length).scatter_reduce(0, inverse, steps, "amin")
    if not sorted:
        first, order = first.sort()
        counts, inverse = counts[order], order.argsort()[inverse]
    return x.index_select(axis, first), first, inverse, counts


@op("Scatter", since=9)
def scatter(x: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0) -> Tensor:
    """A copy of ``x`` with ``updates`` placed at indices along ``axis`` (ScatterElements since opset 11)."""
    return scatter_elements(x, indices, updates, axis=axis)


@op("NonMaxSuppression", since=10)
def non_max_suppression(
    boxes: Tensor,
    scores: Tensor,
    max_output_boxes_per_class: list[int] | None = None,
    iou_threshold: list[float] | None = None,
    score_threshold: list[float] | None = None,
    *,
    center_point_box: int = 0,
) -> Tensor:
    """Per image and class, the boxes that overlap no better box by more than ``iou_threshold``.

    Args:
        boxes: ``[N, boxes, 4]``: two opposite corners, or centre, width and height where ``center_point_box`` is 1.
        scores: ``[N, classes, boxes]``.
        max_output_boxes_per_class: at most so many are kept; none where it is left out.
        iou_threshold: area of the intersection over that of the union.
        score_threshold: only boxes above it are considered.
        center_point_box: how boxes are written.

    Returns:
        ``[kept, 3]``: image, class and box, by image, by class, the best first.
    """
    limit = max_output_boxes_per_class[0] if max_output_boxes_per_class else 0
    classes, rows = scores.shape[1], scores.flatten(0, 1)
    valid = rows > score_threshold[0] if score_threshold else torch.ones_like(rows, dtype=torch.bool)
    if limit <= 0 or not valid.numel():
        return torch.zeros(0, 3, dtype=torch.int64, device=boxes.device)
    counts = valid.sum(1)
    # Of equal scores the first comes first; what is not considered comes last and is cut off.
    order = rows.masked_fill(~valid, float("-inf")).sort(dim=1, descending=True, stable=True).indices
    order = order[:, : int(counts.max())]
    corners = _corners(boxes, bool(center_point_box)).repeat_interleave(classes, 0)
    corners = corners.gather(1, order[:, :, None].expand(-1, -1, 4))
    considered = torch.arange(order.shape[1], device=boxes.device) < counts[:, None]
    kept = _suppress(corners, considered, iou_threshold[0] if iou_threshold else 0.0, limit)
    row, place = kept.nonzero().unbind(1)
    return torch.stack([row // classes, row % classes, order[row, place]], 1)


def _corners(boxes: Tensor, center_point_box: bool) -> Tensor:
    """Return the boxes as their lowest and highest coordinates."""
    first, second = boxes[..., :2], boxes[..., 2:]
    if center_point_box:
        return torch.cat([first - second / 2, first + second / 2], -1)
    return torch.cat([torch.minimum(first, second), torch.maximum(first, second)], -1)


def _overlap(one: Tensor, other: Tensor, threshold: float) -> Tensor:
    """Return which boxes of ``[rows, a, 4]`` overlap which of ``[rows, b, 4]`` too much: ``[rows, a, b]``."""
    left, top, right, bottom = one[:, :, None].unbind(-1)
    left_2, top_2, right_2, bottom_2 = other[:, None].unbind(-1)
    width = (torch.minimum(right, right_2) - torch.maximum(left, left_2)).clamp(min=0)
    height = (torch.minimum(bottom, bottom_2) - torch.maximum(top, top_2)).clamp(min=0)
    shared = width * height
    areas = (right - left) * (bottom - top) + (right_2 - left_2) * (bottom_2 - top_2)
    return (shared > 0) & (shared / (areas - shared) > threshold)


def _suppress(corners: Tensor, considered: Tensor, threshold: float, limit: int) -> Tensor:
    """Return which boxes are kept, of each row independently, the best first.

    Block after block: what boxes kept earlier overlap goes, and the rest of the block settles among itself.

    Args:
        corners: ``[rows, boxes, 4]``, sorted by score.
        considered: ``[rows, boxes]``.
        threshold: how much of their union two kept boxes may share.
        limit: how many boxes of a row are kept at most.
    """
    rows, number = considered.shape
    limit = min(limit, number)
    block = max(16, min(isqrt(_PAIRS // rows), _PAIRS // (rows * max(limit, 1))))
    kept = torch.zeros_like(considered)
    # What was kept so far, without gaps; boxes of no area, which overlap nothing, fill it up. The last place is waste.
    chosen = corners.new_zeros(rows, limit + 1, 4)
    counts = kept.sum(1)
    for start in range(0, number, block):
        part, live = corners[:, start : start + block], considered[:, start : start + block]
        most = int(counts.max())
        live = live & ~_overlap(chosen[:, :most], part, threshold).any(1)
        live = _settled(_overlap(part, part, threshold).triu(1), live)
        place = counts[:, None] + live.cumsum(1) - 1
        live = live & (place < limit)
        kept[:, start : start + block] = live
        place = place.masked_fill(~live, limit)
        chosen.scatter_(1, place[:, :, None].expand(-1, -1, 4), part)
        counts = counts + live.sum(1)
        if bool((counts >= limit).all()):
            break
    return kept


def _settled(over: Tensor, live: Tensor) -> Tensor:
    """Return which boxes stay where each that stays removes those that it is ``over``, all of which come after it.

    As the first is certain, the second is after one step, and so on, this ends at the one solution; in a few steps, as
    chains of boxes that save each other are short.
    """
    kept = live
    while True:
        again = live & ~(over & kept[:, :, None]).any(1)
        if torch.equal(again, kept):
            return kept
        kept = again
