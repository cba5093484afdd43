"""Convolution and transposed convolution."""

import torch.nn.functional as F  # noqa: N812 - the name the whole field uses
from torch import Tensor

from toolchain.ops.registry import op
from toolchain.ops.windows import explicit_pads, fast_layout, pad

_CONV = (F.conv1d, F.conv2d, F.conv3d)
_CONV_TRANSPOSE = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


@op("Conv", trainable=(1, 2))
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
    before, after = explicit_pads(auto_pad, pads, x.shape[2:], w.shape[2:], strides, dilations)
    if before == after:  # the kernel pads by itself
        return _CONV[rank - 1](fast_layout(x, w.numel()), w, b, strides, before, dilations, group)
    return _CONV[rank - 1](fast_layout(pad(x, before, after), w.numel()), w, b, strides, [0] * rank, dilations, group)


@op("ConvTranspose", trainable=(1, 2))
def conv_transpose(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    output_padding: list[int] | None = None,
    output_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Transposed convolution over 1 to 3 spatial dimensions.

    The result is computed without padding and then cropped, so pads may differ from side to side.
    """
    rank = x.ndim - 2
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    extra = output_padding or [0] * rank
    full = [
        (n - 1) * s + (k - 1) * d + 1 for n, k, s, d in zip(x.shape[2:], w.shape[2:], strides, dilations, strict=True)
    ]
    if output_shape is None and auto_pad.startswith("SAME"):
        output_shape = [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
    if output_shape is not None:
        wanted = output_shape[-rank:]
        total = [max(0, f + e - o) for f, e, o in zip(full, extra, wanted, strict=True)]
        before = [t // 2 if auto_pad == "SAME_UPPER" else t - t // 2 for t in total]
        after = [f - b - o for f, b, o in zip(full, before, wanted, strict=True)]
    else:
        pads = pads or [0] * (2 * rank)
        before, after = pads[:rank], [a - e for a, e in zip(pads[rank:], extra, strict=True)]
    convolve = _CONV_TRANSPOSE[rank - 1]
    if before == after:
        return convolve(fast_layout(x, w.numel()), w, b, strides, before, [0] * rank, group, dilations)
    y = convolve(fast_layout(x, w.numel()), w, None, strides, [0] * rank, [0] * rank, group, dilations)
    y = pad(y, [-amount for amount in before], [-amount for amount in after])
    return y if b is None else y + b.reshape(-1, *[1] * rank)
