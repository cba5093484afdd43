"""Pooling over windows and over whole feature maps."""

import torch
import torch.nn.functional as F  # noqa: N812 - the name the whole field uses
from torch import Tensor

from toolchain.ops.registry import op
from toolchain.ops.windows import ceil_after, explicit_pads, fast_layout, pad, windows

_MAX_POOL = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
_AVERAGE_POOL = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)


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
    rank, size = x.ndim - 2, list(x.shape[2:])
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    before, after = explicit_pads(auto_pad, pads, size, kernel_shape, strides, dilations)
    indexed = output_count > 1
    native = (
        x.is_floating_point() and before == after and all(2 * b <= k for b, k in zip(before, kernel_shape, strict=True))
    )
    if native and not indexed:
        return _MAX_POOL[rank - 1](fast_layout(x), kernel_shape, strides, before, dilations, bool(ceil_mode))
    if ceil_mode:
        after = ceil_after(size, kernel_shape, strides, dilations, before, after)
    lowest = float("-inf") if x.is_floating_point() else torch.iinfo(x.dtype).min
    view = windows(pad(x, before, after, lowest), kernel_shape, strides, dilations).flatten(-rank)
    if not indexed:
        return view.amax(-1)
    index = torch.arange(x.numel(), device=x.device).view(x.shape[:2] + x.shape[2:])
    if storage_order:  # column-major: the last dimension varies slowest
        plane = x.shape[2:].numel()
        column = torch.arange(plane, device=x.device).view(size[::-1]).permute(*reversed(range(rank)))
        index = index - index % plane + column
    places = windows(pad(index, before, after), kernel_shape, strides, dilations).flatten(-rank)
    largest, chosen = view.max(-1)
    return largest, places.gather(-1, chosen[..., None])[..., 0]


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
    rank, size = x.ndim - 2, list(x.shape[2:])
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    before, after = explicit_pads(auto_pad, pads, size, kernel_shape, strides, dilations)
    fits = all(2 * b <= k for b, k in zip(before, kernel_shape, strict=True))
    if before == after and fits and set(dilations) == {1}:
        pool = _AVERAGE_POOL[rank - 1]
        return pool(fast_layout(x), kernel_shape, strides, before, bool(ceil_mode), bool(count_include_pad))
    counted = torch.ones_like(x[:1, :1])
    if count_include_pad:
        counted = pad(counted, before, after, 1.0)
    rest = ceil_after(size, kernel_shape, strides, dilations, before, after) if ceil_mode else after
    # What is counted was padded already when padding counts; what ceil_mode adds beyond it never counts.
    done = (before, after) if count_include_pad else ([0] * rank, [0] * rank)
    counted = pad(
        counted,
        [b - d for b, d in zip(before, done[0], strict=True)],
        [r - d for r, d in zip(rest, done[1], strict=True)],
    )
    total = windows(pad(x, before, rest), kernel_shape, strides, dilations).flatten(-rank).sum(-1)
    return total / windows(counted, kernel_shape, strides, dilations).flatten(-rank).sum(-1)


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
    rank, size = x.ndim - 2, list(x.shape[2:])
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    before, after = explicit_pads(auto_pad, pads, size, kernel_shape, strides, dilations)
    if ceil_mode:
        after = ceil_after(size, kernel_shape, strides, dilations, before, after)
    view = windows(pad(x, before, after), kernel_shape, strides, dilations).flatten(-rank)
    norm: Tensor = torch.linalg.vector_norm(view, p, dim=-1)
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
