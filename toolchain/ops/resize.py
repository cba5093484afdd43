"""Resizing of images and volumes: nearest neighbour, linear, cubic and antialiased."""

from dataclasses import replace
from functools import reduce
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name the whole field uses
from torch import Tensor

from toolchain.graph import Node
from toolchain.ops.registry import op
from toolchain.ops.resampling import Axis, Smooth, Taps, nearest, places, taps

_INTERPOLATE = {("linear", 1): "linear", ("linear", 2): "bilinear", ("linear", 3): "trilinear", ("cubic", 2): "bicubic"}


def _on(x: Tensor, array: np.ndarray) -> Tensor:
    # From ordinary memory the copy is staged at once, so this waits for no kernel.
    return torch.from_numpy(array).to(x.device, non_blocking=True)


def _along(x: Tensor, i: int, values: Tensor) -> Tensor:
    """Shape ``values`` so that they broadcast along dimension ``i`` of ``x``."""
    return values.reshape(-1, *[1] * (x.ndim - i - 1))


def _spatial(x: Tensor, axes: dict[int, Axis]) -> list[int] | None:
    """Return the output size of all dimensions but batch and channel; None where torch cannot resize just these."""
    if not x.is_floating_point() or not 3 <= x.ndim <= 5 or min(axes) < 2:
        return None
    return [axes[i].out if i in axes else x.shape[i] for i in range(2, x.ndim)]


def _resize_nearest(x: Tensor, axes: dict[int, Axis], transform: str, rounding: str) -> Tensor:
    wanted = {i: nearest(axis, places(axis, transform), rounding) for i, axis in axes.items()}
    size = _spatial(x, axes)
    if size and all(np.array_equal(index, _torch_nearest(axes[i])) for i, index in wanted.items()):
        return F.interpolate(x, size, mode="nearest")
    for i, index in wanted.items():
        x = x.index_select(i, _on(x, index))
    return x


def _torch_nearest(axis: Axis) -> np.ndarray:
    """Return the elements that torch's own "nearest" shows, which it too finds in float32."""
    if axis.out == 2 * axis.size:
        return np.arange(axis.out) // 2
    scale = np.float32(axis.size) / np.float32(axis.out)
    index: np.ndarray = np.minimum(np.floor(np.arange(axis.out, dtype=np.float32) * scale), axis.size - 1)
    return index.astype(np.int64)


def _same_as_torch(axis: Axis, transform: str) -> bool:
    if transform == "align_corners":
        return True
    whole = axis.scale == np.float32(axis.out) / np.float32(axis.size)
    single = transform == "pytorch_half_pixel" and axis.out == 1
    return bool(whole) and not single and transform in ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel")


def _resize_smooth(x: Tensor, axes: dict[int, Axis], smooth: Smooth) -> Tensor:
    size = _spatial(x, axes)
    usual = not smooth.antialias and (smooth.mode == "linear" or (smooth.a == -0.75 and not smooth.exclude_outside))
    mode = _INTERPOLATE.get((smooth.mode, x.ndim - 2))
    if size and usual and mode and all(_same_as_torch(axis, smooth.transform) for axis in axes.values()):
        return F.interpolate(x, size, mode=mode, align_corners=smooth.transform == "align_corners")
    if size and usual and mode and smooth.transform == "asymmetric" and all(map(_multiplied, axes.values())):
        return _enlarge(x, axes, size, mode)
    if not x.is_floating_point():
        return _mix_integers(x, axes, smooth)
    y = x.to(torch.promote_types(x.dtype, torch.float32))
    for i, axis in axes.items():
        y = _mix(y, i, taps(axis, smooth))
    return y.to(x.dtype)


def _multiplied(axis: Axis) -> bool:
    return axis.out % axis.size == 0 and axis.scale == axis.out // axis.size


def _enlarge(x: Tensor, axes: dict[int, Axis], size: list[int], mode: str) -> Tensor:
    """Put ``k - 1`` elements after each: as between aligned corners, if the last element stands there once more."""
    for i in axes:
        x = torch.cat([x, x.narrow(i, -1, 1)], i)
    grown = [n + (i in axes) for i, n in enumerate(size, start=2)]
    y = F.interpolate(x, grown, mode=mode, align_corners=True)
    for i, axis in axes.items():
        y = y.narrow(i, 0, axis.out)
    return y


def _mix(x: Tensor, i: int, table: Taps) -> Tensor:
    """Mix the elements along dimension ``i``."""
    picked = (x.index_select(i, index) for index in _on(x, table.index).unbind(1))
    weights = (_along(x, i, weight) for weight in _on(x, table.weights).to(x.dtype).unbind(1))
    y = next(picked) * next(weights)
    for part, weight in zip(picked, weights, strict=True):
        y = torch.addcmul(y, part, weight)
    return y


def _mix_integers(x: Tensor, axes: dict[int, Axis], smooth: Smooth) -> Tensor:
    """Mix along all spatial dimensions at once, in the order of ONNX Runtime: its rounding decides what is cut off.

    Raises:
        ValueError: ONNX Runtime computes this in fixed-point numbers.
    """
    first = 0 if x.ndim < 4 else 2
    if smooth.antialias or smooth.mode == "cubic" or min(axes) < first:
        raise ValueError("integers can only be resized linearly, without antialiasing, with the channels first")
    kept = {i: Axis(x.shape[i], x.shape[i], np.float32(1)) for i in range(first, x.ndim)}
    tables = {i: taps(axes.get(i, axis), smooth) for i, axis in kept.items()}
    total = torch.zeros((), device=x.device)
    for sides in product((0, 1), repeat=len(tables)):
        picked, weights = x, []
        for (i, table), side in zip(tables.items(), sides, strict=True):
            picked = picked.index_select(i, _on(x, table.index[:, side]))
            weights.append(_along(x, i, _on(x, table.weights[:, side])))
        total = total + reduce(torch.mul, reversed(weights)) * picked
    return total.to(x.dtype)


def _fill_outside(y: Tensor, axes: dict[int, Axis], value: float) -> Tensor:
    """Fill what a region of interest shows from outside the input."""
    for i, axis in axes.items():
        place = places(axis, "tf_crop_and_resize")
        y = y.masked_fill(_along(y, i, _on(y, (place < 0) | (place > axis.size - 1))), value)
    return y


def _resize(x: Tensor, axes: dict[int, Axis], smooth: Smooth, nearest_mode: str, outside: float = 0.0) -> Tensor:
    if all(axis.out == axis.size for axis in axes.values()):
        return x
    axes = {i: axis for i, axis in axes.items() if axis.scale != 1}
    if smooth.mode == "nearest" and not smooth.antialias:
        y = _resize_nearest(x, axes, smooth.transform, nearest_mode)
    else:
        # A dimension that keeps its size while its factor is not 1 is filtered, but not by the antialiasing filter.
        changed = {i: axis for i, axis in axes.items() if not smooth.antialias or axis.out != axis.size}
        y = _resize_smooth(x, changed, smooth)
    return _fill_outside(y, axes, outside) if smooth.transform == "tf_crop_and_resize" else y


def _scaled(x: Tensor, dims: list[int], scales: list[float]) -> dict[int, Axis]:
    """Return how each dimension is resized by a factor: to its size times the factor, rounded down."""
    factors = dict(zip(dims, map(np.float32, scales), strict=True))
    return {i: Axis(x.shape[i], int(scale * np.float32(x.shape[i])), scale) for i, scale in factors.items()}


def _sized(x: Tensor, dims: list[int], sizes: list[int], policy: str) -> dict[int, Axis]:
    """Return how each dimension is resized to a size, or by the one factor that keeps all within or above the sizes."""
    outs = dict(zip(dims, sizes, strict=True))
    scales = {i: np.float32(out) / np.float32(max(x.shape[i], 1)) for i, out in outs.items()}
    if policy == "stretch":
        return {i: Axis(x.shape[i], out, scales[i]) for i, out in outs.items()}
    if policy not in ("not_larger", "not_smaller"):
        raise ValueError(f"keep_aspect_ratio_policy {policy!r} does not exist")
    scale = min(scales.values()) if policy == "not_larger" else max(scales.values())
    return {i: Axis(x.shape[i], int(np.floor(scale * np.float32(x.shape[i]) + 0.5)), scale) for i in dims}


def _refuse_resize(node: Node) -> str:
    policy, axes = node.attributes.get("keep_aspect_ratio_policy", "stretch"), node.attributes.get("axes")
    if policy != "stretch" and isinstance(axes, list) and any(isinstance(axis, int) and axis < 0 for axis in axes):
        return "ONNX Runtime applies keep_aspect_ratio_policy to no axis that is counted from the end"
    return ""


@op("Upsample", since=7)
def upsample_attribute(x: Tensor, *, mode: str = "nearest", scales: list[float]) -> Tensor:
    """Resize by factors (as an attribute, opset 7 and 8)."""
    return resize_by_scales(x, scales, mode=mode)


@op("Upsample", since=9)
@op("Resize", since=10)
def resize_by_scales(x: Tensor, scales: list[float], *, mode: str = "nearest") -> Tensor:
    """Resize by factors (Upsample, and Resize of opset 10)."""
    axes = _scaled(x, list(range(x.ndim)), scales)
    return _resize(x, axes, Smooth(mode, "asymmetric"), "simple")


@op("Resize", since=11, refuses=_refuse_resize)
def resize(
    x: Tensor,
    roi: list[float] | None = None,
    scales: list[float] | None = None,
    sizes: list[int] | None = None,
    *,
    antialias: int = 0,
    axes: list[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Tensor:
    """Resize by factors or to sizes, the whole or the region of interest ``[*starts, *ends]``, as fractions.

    Raises:
        ValueError: neither or both of factors and sizes are given, or a mode does not exist.
    """
    if bool(sizes) == bool(scales):
        raise ValueError("exactly one of scales and sizes must be given")
    dims = [axis % x.ndim for axis in axes] if axes else list(range(x.ndim))
    targets = _sized(x, dims, sizes, keep_aspect_ratio_policy) if sizes else _scaled(x, dims, scales or [])
    if roi and coordinate_transformation_mode == "tf_crop_and_resize":
        bounds = zip(dims, roi[: len(dims)], roi[len(dims) :], strict=True)
        targets.update({i: replace(targets[i], start=start, end=end) for i, start, end in bounds})
    smooth = Smooth(mode, coordinate_transformation_mode, bool(antialias), bool(exclude_outside), cubic_coeff_a)
    return _resize(x, targets, smooth, nearest_mode, extrapolation_value)
