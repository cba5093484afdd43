"""Resizing of images and volumes by nearest neighbour or linear interpolation."""

from collections.abc import Callable

import torch
from torch import Tensor

from toolchain.ops.registry import op

_ROUNDING: dict[str, Callable[[Tensor], Tensor]] = {
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round_prefer_floor": lambda place: torch.ceil(place - 0.5),
    "round_prefer_ceil": lambda place: torch.floor(place + 0.5),
}


def _places(size: int, out: int, scale: float, transform: str, device: torch.device) -> Tensor:
    """Return where in the input, in elements, every output element of one axis lies: ``[out]``."""
    index = torch.arange(out, dtype=torch.float64, device=device)
    if transform == "asymmetric":
        return index / scale
    if transform == "align_corners":
        return index * (size - 1) / (out - 1) if out > 1 else index * 0
    if transform == "pytorch_half_pixel" and out == 1:
        return index * 0
    if transform == "half_pixel_symmetric":
        # Keeps the centre of the image where it is when the size was rounded (ONNX Resize-19).
        return size / 2 * (1 - out / (scale * size)) + (index + 0.5) / scale - 0.5
    if transform in ("half_pixel", "pytorch_half_pixel"):
        return (index + 0.5) / scale - 0.5
    raise ValueError(f"coordinate_transformation_mode {transform!r} is not supported")


def _resize_axis(x: Tensor, axis: int, places: Tensor, mode: str, nearest_mode: str) -> Tensor:
    last = x.shape[axis] - 1
    if mode == "nearest":
        return x.index_select(axis, _ROUNDING[nearest_mode](places).to(torch.int64).clamp(0, last))
    if mode != "linear":
        raise ValueError(f"mode {mode!r} is not supported")
    low = torch.floor(places)
    weight = (places - low).to(x.dtype).reshape(-1, *[1] * (x.ndim - axis - 1))
    below = x.index_select(axis, low.to(torch.int64).clamp(0, last))
    above = x.index_select(axis, (low.to(torch.int64) + 1).clamp(0, last))
    return below * (1 - weight) + above * weight


def _resize(x: Tensor, targets: dict[int, tuple[int, float]], mode: str, transform: str, nearest_mode: str) -> Tensor:
    """Resize each axis to ``targets[axis]``, an output size and the scale that led to it."""
    for axis, (out, scale) in targets.items():
        if out != x.shape[axis] or scale != 1:
            places = _places(x.shape[axis], out, scale, transform, x.device)
            x = _resize_axis(x, axis, places, mode, nearest_mode)
    return x


def _scaled(x: Tensor, axes: list[int], scales: list[float]) -> dict[int, tuple[int, float]]:
    # float32 as in the file: 0.6 * 5 must not become 2.9999999999999996
    return {
        axis: (int(torch.tensor(x.shape[axis] * scale, dtype=torch.float32).floor()), scale)
        for axis, scale in zip(axes, scales, strict=True)
    }


def _sized(x: Tensor, axes: list[int], sizes: list[int], policy: str) -> dict[int, tuple[int, float]]:
    scales = [size / x.shape[axis] for axis, size in zip(axes, sizes, strict=True)]
    if policy == "stretch":
        return dict(zip(axes, zip(sizes, scales, strict=True), strict=True))
    scale = min(scales) if policy == "not_larger" else max(scales)
    return {axis: (int(x.shape[axis] * scale + 0.5), scale) for axis in axes}


@op("Upsample", since=7)
def upsample_attribute(x: Tensor, *, mode: str = "nearest", scales: list[float]) -> Tensor:
    """Resize by factors (as an attribute, opset 7 and 8)."""
    return _resize(x, _scaled(x, list(range(x.ndim)), scales), mode, "asymmetric", "floor")


@op("Upsample", since=9)
@op("Resize", since=10)
def resize_by_scales(x: Tensor, scales: list[float], *, mode: str = "nearest") -> Tensor:
    """Resize by factors (Upsample, and Resize of opset 10)."""
    return upsample_attribute(x, mode=mode, scales=scales)


@op("Resize", since=11)
def resize(
    x: Tensor,
    roi: Tensor | None = None,
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
    """Resize by factors or to sizes; nearest and linear, without antialiasing."""
    if antialias:
        raise ValueError("antialias=1 is not supported")
    axes = list(range(x.ndim)) if axes is None else [axis % x.ndim for axis in axes]
    if sizes:
        targets = _sized(x, axes, sizes, keep_aspect_ratio_policy)
    elif scales:
        targets = _scaled(x, axes, scales)
    else:
        raise ValueError("neither scales nor sizes are given")
    return _resize(x, targets, mode, coordinate_transformation_mode, nearest_mode)
