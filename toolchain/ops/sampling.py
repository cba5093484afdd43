"""Operators that read or write images at places which other tensors, or arithmetic on indices, give."""

from math import prod

import torch
import torch.nn.functional as F  # noqa: N812 - the name the whole field uses
from torch import Tensor

from toolchain.graph import Node
from toolchain.ops.registry import op
from toolchain.ops.windows import pad

# torch calls the same filters by their two-dimensional names, as ONNX did before opset 20.
_FILTERS = {"linear": "bilinear", "bilinear": "bilinear", "cubic": "bicubic", "bicubic": "bicubic"}


@op("GridSample", since=16)
def grid_sample(
    x: Tensor, grid: Tensor, *, align_corners: int = 0, mode: str = "linear", padding_mode: str = "zeros"
) -> Tensor:
    """Read images ``[N, C, *in]`` at places ``[N, *out, rank]``, from -1 to 1, the last dimension first."""
    if mode == "nearest":
        return _sample_nearest(x, grid, padding_mode, bool(align_corners))
    if mode not in _FILTERS:
        raise ValueError(f"mode {mode!r} does not exist")
    kind = torch.promote_types(x.dtype, grid.dtype)
    return F.grid_sample(x.to(kind), grid.to(kind), _FILTERS[mode], padding_mode, bool(align_corners)).to(x.dtype)


def _sample_nearest(x: Tensor, grid: Tensor, padding_mode: str, align_corners: bool) -> Tensor:
    """Read the nearest elements; not by torch, which is of another opinion about places midway between two."""
    flat = torch.zeros(grid.shape[:-1], dtype=torch.int64, device=x.device)
    valid = torch.ones_like(flat, dtype=torch.bool)
    for size, place in zip(x.shape[2:], reversed(grid.unbind(-1)), strict=True):
        unit = (place + 1) / 2 * (size - 1) if align_corners else ((place + 1) * size - 1) / 2
        index = unit.round().to(torch.int64)
        valid = valid & (index >= 0) & (index < size)
        flat = flat * size + _within(index, size, padding_mode, align_corners)
    y = x.flatten(2).gather(2, flat.flatten(1)[:, None].expand(-1, x.shape[1], -1))
    y = y.reshape(*x.shape[:2], *grid.shape[1:-1])
    return y.masked_fill(~valid[:, None], 0) if padding_mode == "zeros" else y


def _within(index: Tensor, size: int, padding_mode: str, align_corners: bool) -> Tensor:
    """Return which element stands for an index that lies outside."""
    if padding_mode != "reflection":
        return index.clamp(0, size - 1)
    # The mirror stands in the middle of the last element, or at its edge.
    period = max(2 * (size - 1), 1) if align_corners else 2 * size
    index = index % period
    return torch.minimum(index, period - index if align_corners else period - 1 - index)


@op("AffineGrid", since=20)
def affine_grid(theta: Tensor, size: list[int], *, align_corners: int = 0) -> Tensor:
    """Where ``theta [N, rank, rank + 1]`` sends a regular grid: places ``[N, *size[2:], rank]`` for GridSample."""
    rank = len(size) - 2
    lines = []
    for k, n in enumerate(reversed(size[2:])):
        # From 1 downwards and turned round: a line of one place is 1 to ONNX Runtime, not -1.
        line = torch.linspace(1, -1, n, dtype=theta.dtype, device=theta.device).flip(0)
        line = line if align_corners else line * (n - 1) / n
        lines.append(line.reshape(-1, *[1] * k).expand(size[2:]))
    base = torch.stack([*lines, torch.ones_like(lines[0])], -1).reshape(-1, rank + 1)
    return (base @ theta.mT).reshape(theta.shape[0], *size[2:], rank)


@op("DeformConv", since=19, trainable=(1, 3))
def deform_conv(
    x: Tensor,
    w: Tensor,
    offset: Tensor,
    b: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    offset_group: int = 1,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Convolution of an image whose every tap is moved by its own ``offset`` and scaled by its own ``mask``.

    Source: Zhu et al., Deformable ConvNets v2, 2019. Taps are read bilinearly, zeros outside.

    Raises:
        ValueError: the input is no batch of images.
    """
    if x.ndim != 4:
        raise ValueError(f"only images can be convolved by deformable kernels, got {x.ndim - 2} spatial dimensions")
    batch, channels, *image = x.shape
    out, taps = list(offset.shape[2:]), w.shape[2:].numel()
    # Places go from -1 to 1, but between pixels of a power of two in number whole ones stay exactly whole on the way.
    sides = [1 << (n - 1).bit_length() for n in image]
    padded = pad(x, [0, 0], [side - n for side, n in zip(sides, image, strict=True)])
    # In half precision places would be too coarse.
    moves = offset.to(torch.promote_types(offset.dtype, torch.float32)).reshape(batch * offset_group, taps, 2, *out)
    before = pads[:2] if pads else [0, 0]
    regular = _regular_taps(out, list(w.shape[2:]), strides or [1, 1], dilations or [1, 1], before, x.device)
    places = regular + moves
    grid = torch.stack([(2 * places[:, :, k] + 1) / sides[k] - 1 for k in (1, 0)], -1).flatten(1, 2)
    columns = grid_sample(padded.reshape(batch * offset_group, -1, *sides), grid)
    columns = columns.reshape(batch, offset_group, channels // offset_group, taps, *out)
    if mask is not None:
        columns = columns * mask.reshape(batch, offset_group, 1, taps, *out)
    y = w.reshape(group, w.shape[0] // group, -1) @ columns.reshape(batch, group, -1, prod(out))
    y = y.reshape(batch, w.shape[0], *out)
    return y if b is None else y + b[:, None, None]


def _regular_taps(
    out: list[int], kernel: list[int], strides: list[int], dilations: list[int], before: list[int], device: torch.device
) -> Tensor:
    """Return which pixel every tap of a convolution without offsets reads: ``[taps, 2, *out]``, row and column."""
    lines = []
    for n, k, stride, dilation, pad_before in zip(out, kernel, strides, dilations, before, strict=True):
        start = torch.arange(n, device=device) * stride - pad_before
        lines.append(torch.arange(k, device=device)[:, None] * dilation + start)
    rows, columns = lines
    shape = [*kernel, *out]
    grid = [rows[:, None, :, None].expand(shape), columns[None, :, None, :].expand(shape)]
    return torch.stack(grid, 2).flatten(0, 1)


def _refuse_col2im(node: Node) -> str:
    dilations = node.attributes.get("dilations")
    if isinstance(dilations, list) and len(dilations) != 2 and any(d != 1 for d in dilations):
        return "ONNX Runtime dilates blocks otherwise than the standard where they are no images"
    return ""


@op("Col2Im", since=18, refuses=_refuse_col2im)
def col2im(
    x: Tensor,
    image_shape: list[int],
    block_shape: list[int],
    *,
    dilations: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Add up blocks, ``[N, C * block, blocks]``, where they overlap in an image ``[N, C, *image_shape]``."""
    rank = len(image_shape)
    strides, dilations, pads = strides or [1] * rank, dilations or [1] * rank, pads or [0] * (2 * rank)
    padded = [n + before + after for n, before, after in zip(image_shape, pads[:rank], pads[rank:], strict=True)]
    flat = torch.zeros([1] * (2 * rank), dtype=torch.int64, device=x.device)
    for axis, (n, k, s, d) in enumerate(zip(padded, block_shape, strides, dilations, strict=True)):
        inner = torch.arange(k, device=x.device) * d
        blocks = torch.arange(0, n - (k - 1) * d, s, device=x.device)
        flat = flat * n + inner.reshape(-1, *[1] * (2 * rank - axis - 1)) + blocks.reshape(-1, *[1] * (rank - axis - 1))
    columns = x.reshape(x.shape[0], -1, flat.numel())
    image = x.new_zeros(*columns.shape[:2], prod(padded)).index_add(2, flat.flatten(), columns)
    before, after = [-amount for amount in pads[:rank]], [-amount for amount in pads[rank:]]
    return pad(image.reshape(*columns.shape[:2], *padded), before, after)


@op("CenterCropPad", since=18)
def center_crop_pad(x: Tensor, shape: list[int], *, axes: list[int] | None = None) -> Tensor:
    """Crop the middle of every axis that is longer than ``shape``, and put zeros around every one that is shorter."""
    axes = list(range(x.ndim)) if axes is None else [axis % x.ndim for axis in axes]
    for axis, wanted in zip(axes, shape, strict=True):
        missing = wanted - x.shape[axis]
        if missing < 0:
            x = x.narrow(axis, -missing // 2, wanted)
        elif missing > 0:
            before, after = list(x.shape), list(x.shape)
            before[axis], after[axis] = missing // 2, missing - missing // 2
            x = torch.cat([x.new_zeros(before), x, x.new_zeros(after)], axis)
    return x


@op("MaxUnpool", since=9)
def max_unpool(
    x: Tensor,
    indices: Tensor,
    output_shape: list[int] | None = None,
    *,
    kernel_shape: list[int],
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Tensor:
    """Put values back where MaxPool took them from, by indices into the flattened result; zeros elsewhere."""
    rank = len(kernel_shape)
    strides, pads = strides or [1] * rank, pads or [0] * (2 * rank)
    if not output_shape:
        grown = zip(x.shape[2:], strides, kernel_shape, pads[:rank], pads[rank:], strict=True)
        output_shape = [*x.shape[:2], *((n - 1) * s + k - before - after for n, s, k, before, after in grown)]
    flat = x.new_zeros(prod(output_shape)).scatter(0, indices.flatten(), x.flatten())
    return flat.reshape(output_shape)
