"""Padding and windows that convolution and pooling share."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the name the whole field uses
from torch import Tensor

# A convolution whose weights outnumber its inputs by this factor spends its time on bringing them into another layout.
HEAVY_WEIGHTS = 8

# Below so many elements, bringing them into another layout takes longer than it saves.
SMALLEST = 65536


def fast_layout(x: Tensor, weights: int = 0) -> Tensor:
    """Return a batch of images in the memory layout that torch's CPU kernels are fastest in; values are unchanged.

    Measured with one thread on LeNet-5 and ResNet-20: pooling in channels_last is 9 times faster, because only it is
    vectorised, and a training step of the whole network 1.2 to 1.5 times. A convolution 512x512x3x3 of one image of
    7x7 is 2.5 times slower in it. Of one channel both layouts are the same bytes, and torch takes the strides for its
    own layout; they are written as the other's.

    Args:
        x: any tensor; only larger 4-D ones on the CPU are touched.
        weights: number of elements of the weights that are applied to it.
    """
    if x.ndim != 4 or x.numel() < SMALLEST or x.device.type != "cpu":
        return x
    if weights > HEAVY_WEIGHTS * x.numel():
        return x.contiguous()
    if x.shape[1] == 1:
        return x.reshape(len(x), *x.shape[2:], 1).movedim(3, 1)
    return x.contiguous(memory_format=torch.channels_last)


def explicit_pads(
    auto_pad: str,
    pads: list[int] | None,
    size: Sequence[int],
    kernel: Sequence[int],
    strides: list[int],
    dilations: list[int],
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
    """Pad the trailing spatial dimensions of ``x``; a negative amount crops."""
    if not any(before) and not any(after):
        return x
    flat = [amount for pair in zip(reversed(before), reversed(after), strict=True) for amount in pair]
    return F.pad(x, flat, value=value)


def ceil_after(
    size: list[int], kernel: list[int], strides: list[int], dilations: list[int], before: list[int], after: list[int]
) -> list[int]:
    """Return the padding after each dimension with which whole windows cover what ``ceil_mode`` counts.

    The last window must start inside the input or the padding before it, as both ONNX and torch have it.
    """
    found = []
    for n, k, s, d, b, a in zip(size, kernel, strides, dilations, before, after, strict=True):
        span = (k - 1) * d + 1
        count = -(-(n + b + a - span) // s) + 1
        if (count - 1) * s >= n + b:
            count -= 1
        found.append((count - 1) * s + span - n - b)
    return found


def windows(x: Tensor, kernel: list[int], strides: list[int], dilations: list[int]) -> Tensor:
    """Return ``[N, C, *out, *kernel]``: a view of every window of ``x``."""
    for axis, (k, s, d) in enumerate(zip(kernel, strides, dilations, strict=True), start=2):
        x = x.unfold(axis, (k - 1) * d + 1, s)[..., ::d]
    return x
