"""Convolution and pooling."""

import torch.nn.functional as F  # noqa: N812 - the name the whole field uses
from torch import Tensor

from toolchain.ops.registry import op

_CONV = (F.conv1d, F.conv2d, F.conv3d)


def explicit_pads(
    auto_pad: str, pads: list[int] | None, size: list[int], kernel: list[int], strides: list[int], dilations: list[int]
) -> tuple[list[int], list[int]]:
    """Return the padding before and after each spatial dimension that ``auto_pad`` or ``pads`` asks for."""
    rank = len(size)
    if auto_pad == "NOTSET":
        pads = pads or [0] * (2 * rank)
        return pads[:rank], pads[rank:]
    if auto_pad == "VALID":
        return [0] * rank, [0] * rank
    total = [
        max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n)
        for n, k, s, d in zip(size, kernel, strides, dilations, strict=True)
    ]
    small, large = [t // 2 for t in total], [t - t // 2 for t in total]
    return (small, large) if auto_pad == "SAME_UPPER" else (large, small)


def pad(x: Tensor, before: list[int], after: list[int], value: float = 0.0) -> Tensor:
    """Pad the trailing spatial dimensions of ``x``."""
    if not any(before) and not any(after):
        return x
    flat = [amount for pair in zip(reversed(before), reversed(after), strict=True) for amount in pair]
    return F.pad(x, flat, value=value)


@op("Conv")
def conv(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Convolution over 1 to 3 spatial dimensions."""
    rank = x.ndim - 2
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    before, after = explicit_pads(auto_pad, pads, list(x.shape[2:]), list(w.shape[2:]), strides, dilations)
    if before == after:  # the kernel pads by itself
        return _CONV[rank - 1](x, w, b, strides, before, dilations, group)
    return _CONV[rank - 1](pad(x, before, after), w, b, strides, [0] * rank, dilations, group)


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
) -> Tensor:
    """Largest value under each window; to be widened to every attribute and the Indices output."""
    rank = x.ndim - 2
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    before, after = explicit_pads(auto_pad, pads, list(x.shape[2:]), kernel_shape, strides, dilations)
    x = pad(x, before, after, value=float("-inf"))
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[rank - 1]
    return pool(x, kernel_shape, strides, 0, dilations, bool(ceil_mode))
