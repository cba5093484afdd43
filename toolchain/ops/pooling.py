"""Pooling over windows and over whole feature maps."""

from operator import ge
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - the name the whole field uses
from torch import Tensor

from toolchain.ops.registry import op
from toolchain.ops.windows import ceil_after, fast_layout, pad, windows

_MAX_POOL = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
_AVERAGE_POOL = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)


class _Window(NamedTuple):
    """What is pooled, one number for each spatial dimension.

    Attributes:
        kernel: length of the window.
        strides: how far it moves from one result to the next.
        dilations: distance of its elements.
        before: padding before the first element, negative to leave elements out.
        after: padding after the last.
        ceil: whether a last window that is not full counts.
    """

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    before: list[int]
    after: list[int]
    ceil: bool

    def reach(self, size: list[int]) -> list[int]:
        """Return the padding after the last element with which every window of a map of ``size`` is full."""
        if not self.ceil:
            return self.after
        return ceil_after(size, self.kernel, self.strides, self.dilations, self.before, self.after)

    def suits_torch(self, size: list[int]) -> bool:
        """Return whether torch can pad by itself."""
        small = all(0 <= 2 * b <= k <= n for b, k, n in zip(self.before, self.kernel, size, strict=True))
        return small and self.before == self.after


def _window(
    x: Tensor,
    auto_pad: str,
    ceil_mode: int,
    dilations: list[int] | None,
    kernel: list[int],
    pads: list[int] | None,
    strides: list[int] | None,
) -> _Window:
    rank = x.ndim - 2
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    pads = pads or [0] * (2 * rank)
    before, after = pads[:rank], pads[rank:]
    if auto_pad == "VALID":
        before, after = [0] * rank, [0] * rank
    elif auto_pad != "NOTSET":
        # As ONNX Runtime has it, which counts no dilations here, and where windows do not meet leaves elements out.
        total = [(-(-n // s) - 1) * s + k - n for n, k, s in zip(x.shape[2:], kernel, strides, strict=True)]
        before = [int((t if auto_pad == "SAME_UPPER" else t + 1) / 2) for t in total]
        after = [t - b for t, b in zip(total, before, strict=True)]
    return _Window(kernel, strides, dilations, before, after, bool(ceil_mode))


@op("MaxPool")
def max_pool(
    x: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: list[int] | None = None,
    kernel_shape: list[int],
    pads: list[int] | None = None,
    storage_order: int = 0,
    strides: list[int] | None = None,
    output_count: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """Largest value under each window, and on request its index into the flattened input."""
    rank = x.ndim - 2
    plain = auto_pad == "NOTSET" and output_count == 1 and not any(pads or ()) and x.is_floating_point()
    if plain and all(map(ge, x.shape[2:], kernel_shape)):  # as nearly always, and then at once
        return _MAX_POOL[rank - 1](fast_layout(x), kernel_shape, strides or 1, 0, dilations or 1, bool(ceil_mode))
    window = _window(x, auto_pad, ceil_mode, dilations, kernel_shape, pads, strides)
    size = list(x.shape[2:])
    # float32 holds the 8-bit integers that there are besides floats.
    values, origin, ceil = x if x.is_floating_point() else x.to(torch.float32), [0] * rank, window.ceil
    padding = window.before
    if not window.suits_torch(size):
        values, origin, ceil = pad(values, window.before, window.reach(size), float("-inf")), window.before, False
        padding = [0] * rank
    pool, where = _MAX_POOL[rank - 1], (kernel_shape, window.strides, padding, window.dilations, ceil)
    if output_count == 1:
        largest: Tensor = pool(fast_layout(values), *where)
        return largest.to(x.dtype)
    largest, index = pool(fast_layout(values), *where, return_indices=True)
    return largest.to(x.dtype), _flat_index(index, list(values.shape[2:]), origin, x, bool(storage_order))


def _flat_index(index: Tensor, padded: list[int], origin: list[int], x: Tensor, column_major: bool) -> Tensor:
    """Return indices into a padded plane as indices into ``x``, whose first dimension may be the fastest."""
    places = []
    for length, start in zip(reversed(padded), reversed(origin), strict=True):
        places.append(index % length - start)
        index = index // length
    sizes = list(x.shape[2:])
    if not column_major:
        places, sizes = places[::-1], sizes[::-1]
    flat = torch.zeros_like(places[0])
    for place, length in zip(places, reversed(sizes), strict=True):
        flat = flat * length + place
    planes = torch.arange(x.shape[0] * x.shape[1], device=x.device) * x.shape[2:].numel()
    return flat + planes.reshape(x.shape[:2] + (1,) * len(sizes))


@op("AveragePool")
def average_pool(
    x: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: list[int] | None = None,
    kernel_shape: list[int],
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Mean under each window."""
    window = _window(x, auto_pad, ceil_mode, dilations, kernel_shape, pads, strides)
    rank, size = x.ndim - 2, list(x.shape[2:])
    pool, dilated = _AVERAGE_POOL[rank - 1], set(window.dilations) != {1}
    if not dilated and window.suits_torch(size):
        return pool(fast_layout(x), kernel_shape, window.strides, window.before, window.ceil, bool(count_include_pad))
    padded = pad(x, window.before, window.reach(size))
    if dilated:
        total = windows(padded, kernel_shape, window.strides, window.dilations).sum(list(range(-rank, 0)))
    else:
        total = pool(padded, kernel_shape, window.strides) * torch.Size(kernel_shape).numel()
    for axis in range(rank):
        total = total / _count(window, axis, total.shape[axis + 2], size[axis], bool(count_include_pad), x)
    return total


def _count(window: _Window, axis: int, out: int, size: int, include_pad: bool, x: Tensor) -> Tensor:
    """Return how many elements along ``axis`` each window has, to divide by; what ``ceil`` adds never counts."""
    start = torch.arange(out, device=x.device) * window.strides[axis] - window.before[axis]
    places = start[:, None] + torch.arange(window.kernel[axis], device=x.device) * window.dilations[axis]
    first, end = (-window.before[axis], size + window.after[axis]) if include_pad else (0, size)
    count = ((places >= first) & (places < end)).sum(1).clamp(min=1)
    return count.to(x.dtype).reshape(-1, *[1] * (x.ndim - axis - 3))


@op("LpPool", since=2)
def lp_pool(
    x: Tensor,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: list[int] | None = None,
    kernel_shape: list[int],
    p: int = 2,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Lp norm of each window."""
    window = _window(x, auto_pad, ceil_mode, dilations, kernel_shape, pads, strides)
    padded = pad(x, window.before, window.reach(list(x.shape[2:])))
    view = windows(padded, kernel_shape, window.strides, window.dilations)
    norm: Tensor = torch.linalg.vector_norm(view, p, dim=list(range(2 - x.ndim, 0)))
    return norm


def _spatial(x: Tensor) -> list[int]:
    return list(range(2, x.ndim))


@op("GlobalAveragePool")
def global_average_pool(x: Tensor) -> Tensor:
    """Mean over all spatial dimensions, which are kept with size 1."""
    return x.mean(_spatial(x), keepdim=True)


@op("GlobalMaxPool")
def global_max_pool(x: Tensor) -> Tensor:
    """Maximum over all spatial dimensions, which are kept with size 1."""
    return x.amax(_spatial(x), keepdim=True)


@op("GlobalLpPool", since=2)
def global_lp_pool(x: Tensor, *, p: int = 2) -> Tensor:
    """Lp norm over all spatial dimensions, which are kept with size 1."""
    norm: Tensor = torch.linalg.vector_norm(x, p, dim=_spatial(x), keepdim=True)
    return norm
