"""Pooling over regions of interest: every region of an image to the same number of bins."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from toolchain.ops.registry import op

# How many elements an intermediate result may have; regions are pooled in portions that keep it.
_PORTION = 1 << 24


@dataclass(frozen=True)
class _Taps:
    """The rows, or columns, of the image that each bin reads.

    Attributes:
        index: which, int64 ``[regions, bins, taps]``.
        weights: how much they count, of the same shape.
        used: which of them there are; bins have different numbers of taps.
    """

    index: Tensor
    weights: Tensor
    used: Tensor

    def of(self, regions: Tensor) -> "_Taps":
        """Return the taps of some of the regions."""
        return _Taps(self.index[regions], self.weights[regions], self.used[regions])


_Pool = Callable[[Tensor, _Taps, _Taps], Tensor]


@op("RoiAlign", since=10)
def roi_align_whole_pixel(
    x: Tensor,
    rois: Tensor,
    batch_indices: Tensor,
    *,
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Tensor:
    """RoiAlign before opset 16, where coordinates are whole at the edges of pixels."""
    return roi_align(
        x,
        rois,
        batch_indices,
        coordinate_transformation_mode="output_half_pixel",
        mode=mode,
        output_height=output_height,
        output_width=output_width,
        sampling_ratio=sampling_ratio,
        spatial_scale=spatial_scale,
    )


@op("RoiAlign", since=16)
def roi_align(
    x: Tensor,
    rois: Tensor,
    batch_indices: Tensor,
    *,
    coordinate_transformation_mode: str = "half_pixel",
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Tensor:
    """Bins of regions ``[left, top, right, bottom]``, pooled from places between the pixels.

    Source: He et al., Mask R-CNN, 2017. ``mode="max"`` takes the largest of the four weighted neighbours of all places
    of a bin, not the largest interpolated value: so do ONNX Runtime and the official cases.

    Returns:
        ``[regions, channels, output_height, output_width]``.
    """
    half = coordinate_transformation_mode == "half_pixel"
    corners = rois.to(torch.promote_types(rois.dtype, torch.float32)) * spatial_scale - (0.5 if half else 0.0)
    start, extent = corners[:, :2], corners[:, 2:] - corners[:, :2]
    extent = extent if half else extent.clamp(min=1)
    columns = _between(start[:, 0], extent[:, 0], output_width, sampling_ratio, x.shape[3], mean=mode == "avg")
    rows = _between(start[:, 1], extent[:, 1], output_height, sampling_ratio, x.shape[2], mean=mode == "avg")
    return _pool(x, batch_indices, rows, columns, _mean if mode == "avg" else _largest)


def _between(start: Tensor, extent: Tensor, bins: int, ratio: int, size: int, mean: bool) -> _Taps:
    """Return the neighbours of places spread evenly over each bin: ``ratio``, or about one a pixel where it is 0."""
    width = extent / bins
    counts = torch.full_like(width, ratio) if ratio > 0 else width.ceil()
    most = ratio if ratio > 0 else _most(counts)
    steps = torch.arange(most, device=start.device) + 0.5
    edges = start[:, None] + torch.arange(bins, device=start.device) * width[:, None]
    place = edges[:, :, None] + (steps * width[:, None] / counts[:, None])[:, None]
    inside = (place >= -1) & (place <= size)
    place = torch.where(inside, place, torch.zeros_like(place)).clamp(0, size - 1)
    low = place.detach().floor()
    high = (low + 1).clamp(max=size - 1)
    weights = torch.cat([1 - (place - low), place - low], -1) * inside.repeat(1, 1, 2)
    used = (steps < counts[:, None])[:, None].expand(place.shape).repeat(1, 1, 2)
    if mean:
        weights = weights / counts.clamp(min=1)[:, None, None]
    return _Taps(torch.cat([low, high], -1).to(torch.int64), weights, used)


@op("MaxRoiPool")
def max_roi_pool(x: Tensor, rois: Tensor, *, pooled_shape: list[int], spatial_scale: float = 1.0) -> Tensor:
    """The largest pixel in each bin of regions ``[image, left, top, right, bottom]``, 0 in an empty bin.

    Source: Girshick, Fast R-CNN, 2015.

    Returns:
        ``[regions, channels, *pooled_shape]``.
    """
    scaled = rois[:, 1:] * spatial_scale
    corners = scaled.sign() * (scaled.abs() + 0.5).floor()
    start, extent = corners[:, :2], (corners[:, 2:] - corners[:, :2] + 1).clamp(min=1)
    columns = _whole(start[:, 0], extent[:, 0], pooled_shape[1], x.shape[3])
    rows = _whole(start[:, 1], extent[:, 1], pooled_shape[0], x.shape[2])
    return _pool(x, rois[:, 0].to(torch.int64), rows, columns, _largest)


def _whole(start: Tensor, extent: Tensor, bins: int, size: int) -> _Taps:
    """Return the pixels that lie in each bin."""
    width, number = (extent / bins)[:, None], torch.arange(bins, device=start.device)
    first = ((number * width).floor() + start[:, None]).clamp(0, size)
    last = (((number + 1) * width).ceil() + start[:, None]).clamp(0, size)
    steps = torch.arange(_most(last - first), device=start.device)
    index = first[:, :, None].to(torch.int64) + steps
    return _Taps(index.clamp(max=size - 1), torch.ones_like(index), steps < (last - first)[:, :, None])


def _most(counts: Tensor) -> int:
    """Return how many taps the bin with the most has, at least 1, so that nothing is empty."""
    return max(1, int(counts.max())) if counts.numel() else 1


def _pool(x: Tensor, image: Tensor, rows: _Taps, columns: _Taps, pool: _Pool) -> Tensor:
    """Pool every region from the image that it lies in."""
    pieces, order = [], []
    bins = rows.index.shape[1]
    taps = columns.index.shape[1] * columns.index.shape[2]
    portion = max(1, _PORTION // max(1, x.shape[1] * bins * max(taps, x.shape[3])))
    for number, pixels in enumerate(x):
        for regions in torch.split((image == number).nonzero()[:, 0], portion):
            pieces.append(pool(pixels, rows.of(regions), columns.of(regions)))
            order.append(regions)
    return torch.cat(pieces)[torch.cat(order).argsort()].to(x.dtype)


def _mean(pixels: Tensor, rows: _Taps, columns: _Taps) -> Tensor:
    """Return ``[regions, channels, rows, columns]``: a mean of bilinear samples is one linear map for each axis."""
    channels, height, width = pixels.shape
    regions, bins = rows.index.shape[:2]
    down, across = _matrix(rows, height), _matrix(columns, width)
    flat = pixels.to(down.dtype).transpose(0, 1).reshape(height, -1)
    mixed = (down.reshape(-1, height) @ flat).reshape(regions, bins * channels, width) @ across.mT
    return mixed.reshape(regions, bins, channels, across.shape[1]).transpose(1, 2)


def _matrix(taps: _Taps, size: int) -> Tensor:
    weights = taps.weights * taps.used
    return weights.new_zeros(*weights.shape[:2], size).scatter_add(2, taps.index, weights)


def _largest(pixels: Tensor, rows: _Taps, columns: _Taps) -> Tensor:
    """Return ``[regions, channels, rows, columns]``, the largest weighted pixel; 0 where there is none."""
    flat, width = pixels.flatten(1), pixels.shape[2]
    best = torch.full((), float("-inf"), dtype=pixels.dtype, device=pixels.device)
    for tap in range(rows.index.shape[2]):
        index = rows.index[:, :, tap, None, None] * width + columns.index[:, None]
        weights = rows.weights[:, :, tap, None, None] * columns.weights[:, None]
        used = rows.used[:, :, tap, None, None] & columns.used[:, None]
        values = (flat[:, index] * weights).masked_fill(~used, float("-inf"))
        best = torch.maximum(best, values.amax(-1))
    empty = ~(rows.used.any(-1)[:, :, None] & columns.used.any(-1)[:, None])
    return best.masked_fill(empty, 0).transpose(0, 1)
