"""Operators that pick, place, order and pad values."""

import torch
import torch.nn.functional as F  # noqa: N812 - the name the whole field uses
from torch import Tensor

from toolchain.ops.registry import op


def _slice(x: Tensor, starts: list[int], ends: list[int], axes: list[int] | None, steps: list[int] | None) -> Tensor:
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    index, flipped = [slice(None)] * x.ndim, []
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        places = range(*slice(start, end, step).indices(x.shape[axis]))
        if step < 0:  # torch has no negative steps: take the same elements upwards and turn them round
            places = places[::-1]
            flipped.append(axis)
        index[axis] = slice(places.start, max(places.stop, places.start), places.step)
    x = x[tuple(index)]
    return x.flip(flipped) if flipped else x


@op("Slice")
def slice_attributes(x: Tensor, *, starts: list[int], ends: list[int], axes: list[int] | None = None) -> Tensor:
    """A range along each axis (as attributes, before opset 10)."""
    return _slice(x, starts, ends, axes, None)


@op("Slice", since=10)
def slice_inputs(
    x: Tensor,
    starts: list[int],
    ends: list[int],
    axes: list[int] | None = None,
    steps: list[int] | None = None,
) -> Tensor:
    """A range along each axis; out of range is cut, steps may be negative."""
    return _slice(x, starts, ends, axes, steps)


def _upwards(index: Tensor, size: int) -> Tensor:
    """Return indices as int64, negative ones counted from the end."""
    index = index.to(torch.int64)
    return torch.where(index < 0, index + size, index)


@op("Gather", trainable=(0,))
def gather(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """Whole slices along ``axis``."""
    axis %= x.ndim
    index = _upwards(indices, x.shape[axis])
    return x.index_select(axis, index.reshape(-1)).reshape(x.shape[:axis] + index.shape + x.shape[axis + 1 :])


@op("GatherElements", since=11)
def gather_elements(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """One element along ``axis`` per index."""
    return torch.gather(x, axis, _upwards(indices, x.shape[axis]))


@op("GatherND", since=11)
def gather_nd(x: Tensor, indices: Tensor, *, batch_dims: int = 0) -> Tensor:
    """Slices addressed by index tuples in the last dimension of ``indices``."""
    outer = x.shape[:batch_dims].numel()
    data, index = x.flatten(0, batch_dims - 1) if batch_dims else x[None], indices.to(torch.int64)
    tuples = index.reshape(outer, -1, index.shape[-1])
    batch = torch.arange(outer, device=x.device)[:, None].expand(tuples.shape[:2])
    picked = data[(batch, *tuples.unbind(-1))]
    return picked.reshape(index.shape[:-1] + x.shape[batch_dims + index.shape[-1] :])


@op("ScatterElements", since=11)
def scatter_elements(x: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0, reduction: str = "none") -> Tensor:
    """A copy of ``x`` with ``updates`` placed, or combined with what is there, at indices along ``axis``."""
    index = _upwards(indices, x.shape[axis])
    if reduction == "none":
        return x.scatter(axis, index, updates)
    name = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}[reduction]
    return x.scatter_reduce(axis, index, updates, name)


@op("ScatterND", since=11)
def scatter_nd(x: Tensor, indices: Tensor, updates: Tensor, *, reduction: str = "none") -> Tensor:
    """A copy of ``x`` with slices placed, or combined with what is there, at index tuples."""
    depth = indices.shape[-1]
    addressed = list(x.shape[:depth])
    flat = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=x.device)
    for position, size in enumerate(addressed):
        flat = flat * size + _upwards(indices[..., position], size)
    rows = x.reshape(x.shape[:depth].numel(), -1)
    index = flat.reshape(-1, 1).expand(-1, rows.shape[1])
    placed = updates.reshape(flat.numel(), rows.shape[1])
    return scatter_elements(rows, index, placed, axis=0, reduction=reduction).reshape(x.shape)


@op("TopK")
def top_k_attribute(x: Tensor, *, axis: int = -1, k: int) -> tuple[Tensor, ...]:
    """The k largest values along ``axis`` and their indices (k as an attribute, before opset 10)."""
    return top_k(x, [k], axis=axis)


@op("TopK", since=10)
def top_k(x: Tensor, k: list[int], *, axis: int = -1, largest: int = 1, sorted: int = 1) -> tuple[Tensor, ...]:  # noqa: A002 - ONNX name
    """The k largest or smallest values along ``axis`` and their indices; of equal values the first come first."""
    # torch.topk leaves the order of ties open, a stable sort does not.
    values, indices = torch.sort(x, dim=axis, descending=bool(largest), stable=True)
    return values.narrow(axis, 0, k[0]), indices.narrow(axis, 0, k[0])


@op("ArgMax")
def arg_max(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    """Index of the maximum along ``axis``, the first or the last of equal ones."""
    if select_last_index:
        return x.shape[axis] - 1 - torch.argmax(x.flip(axis), axis, bool(keepdims))
    return torch.argmax(x, axis, bool(keepdims))


@op("ArgMin")
def arg_min(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    """Index of the minimum along ``axis``, the first or the last of equal ones."""
    if select_last_index:
        return x.shape[axis] - 1 - torch.argmin(x.flip(axis), axis, bool(keepdims))
    return torch.argmin(x, axis, bool(keepdims))


def _pad(x: Tensor, pads: list[int], value: float, axes: list[int] | None, mode: str) -> Tensor:
    axes = list(range(x.ndim)) if axes is None else [axis % x.ndim for axis in axes]
    amounts = dict(zip(axes, zip(pads[: len(axes)], pads[len(axes) :], strict=True), strict=True))
    if mode == "constant":
        flat = [amount for axis in reversed(range(x.ndim)) for amount in amounts.get(axis, (0, 0))]
        return _pad_constant(x, flat, value)
    for axis, (before, after) in amounts.items():
        if before or after:  # one gather along each axis serves every mode, rank and type
            places = torch.arange(-before, x.shape[axis] + after, device=x.device)
            x = x.index_select(axis, _source(places, x.shape[axis], mode))
    return x


def _pad_constant(x: Tensor, flat: list[int], value: float) -> Tensor:
    if x.dtype == torch.bool:
        return F.pad(x.to(torch.uint8), flat, value=value).to(torch.bool)
    return F.pad(x, flat, value=value)


def _source(places: Tensor, size: int, mode: str) -> Tensor:
    """Return which element a place outside ``0..size-1`` shows: the edge, its mirror image or the other end."""
    if mode == "edge":
        return places.clamp(0, size - 1)
    if mode == "wrap":
        return places % size
    if size == 1:
        return torch.zeros_like(places)
    period = 2 * (size - 1)
    places = places % period
    return torch.where(places < size, places, period - places)


@op("Pad", since=2)
def pad_attributes(x: Tensor, *, pads: list[int], value: float = 0.0, mode: str = "constant") -> Tensor:
    """Pad every dimension (amounts as an attribute, before opset 11); negative amounts crop."""
    return _pad(x, pads, value, None, mode)


@op("Pad", since=11)
def pad_inputs(
    x: Tensor,
    pads: list[int],
    value: list[float] | None = None,
    axes: list[int] | None = None,
    *,
    mode: str = "constant",
) -> Tensor:
    """Pad the given axes, or all, with a constant, the edge, a reflection or the other end."""
    return _pad(x, pads, value[0] if value else 0.0, axes, mode)
