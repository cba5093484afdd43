"""Where the elements of a resized axis come from: places in the input, and the taps that an element is mixed from.

All of it depends on sizes and attributes alone, so it is computed in numpy, and in float32 as ONNX Runtime does: near a
tie one rounding decides which neighbour is nearest.
"""

from dataclasses import dataclass

import numpy as np

Array = np.ndarray
f32 = np.float32

# By how much the output index is moved before, and the place in the input after, the division by the scale.
_BY_SCALE = {
    "asymmetric": (0.0, 0.0),
    "half_pixel": (0.5, 0.5),
    "pytorch_half_pixel": (0.5, 0.5),
    "tf_half_pixel_for_nn": (0.5, 0.0),
}

# How near to the middle between two elements ONNX Runtime takes a place to be in the middle.
_TIE = 1e-6


@dataclass(frozen=True)
class Axis:
    """How one axis is resized.

    Attributes:
        size: length of the input.
        out: length of the output.
        scale: the factor that coordinates are divided by; ``out / size`` only where that was not rounded.
        start: where the region of interest starts, 0 to 1 (tf_crop_and_resize).
        end: where it ends.
    """

    size: int
    out: int
    scale: np.float32
    start: float = 0.0
    end: float = 1.0


@dataclass(frozen=True)
class Taps:
    """Output element ``i`` is the sum over ``t`` of ``weights[i, t]`` times input element ``index[i, t]``."""

    index: Array
    weights: Array


def places(axis: Axis, transform: str) -> Array:
    """Return where in the input, in elements, every output element lies: float32 ``[out]``.

    Raises:
        ValueError: there is no such coordinate_transformation_mode.
    """
    index, size, out = np.arange(axis.out, dtype=f32), f32(axis.size), f32(axis.out)
    if axis.scale == 1:
        return index
    if transform in _BY_SCALE:
        shift, back = _BY_SCALE[transform]
        single = transform == "pytorch_half_pixel" and axis.out == 1
        return index if single else (index + f32(shift)) / axis.scale - f32(back)
    if transform == "half_pixel_symmetric":
        # Keeps the centre of the image where it is when the size was rounded (ONNX Resize-19).
        offset = size / f32(2) * (f32(1) - out / (axis.scale * size))
        return (offset + (index.astype(np.float64) + 0.5) / axis.scale - 0.5).astype(f32)
    if transform == "align_corners":
        return index if axis.out == 1 else index * (size - f32(1)) / (out - f32(1))
    if transform == "tf_crop_and_resize":
        start, end, last = f32(axis.start), f32(axis.end), size - f32(1)
        if axis.out == 1:
            return np.array([0.5 * (start + end) * last], f32)
        return start * last + index * (end - start) * last / (out - f32(1))
    raise ValueError(f"coordinate_transformation_mode {transform!r} does not exist")


def nearest(axis: Axis, place: Array, rounding: str) -> Array:
    """Return the input element that each output element shows: int64 ``[out]``.

    Raises:
        ValueError: there is no such nearest_mode.
    """
    whole = np.floor(place)
    fraction = place - whole
    tie = np.abs(fraction - f32(0.5)) < _TIE
    if rounding == "floor":
        index = whole
    elif rounding == "ceil":
        index = np.ceil(place)
    elif rounding == "round_prefer_floor":
        index = whole + ((fraction > 0.5) & ~tie)
    elif rounding == "round_prefer_ceil":
        index = whole + ((fraction > 0.5) | tie)
    elif rounding == "simple":  # before opset 11
        index = np.ceil(place) if axis.scale < 1 else whole
    else:
        raise ValueError(f"nearest_mode {rounding!r} does not exist")
    inside: Array = index.clip(0, axis.size - 1)
    return inside.astype(np.int64)


@dataclass(frozen=True)
class Smooth:
    """Which elements are mixed, and how.

    Attributes:
        mode: ``"linear"`` or ``"cubic"``.
        transform: coordinate_transformation_mode.
        antialias: whether the filter widens as the axis shrinks.
        exclude_outside: whether what lies outside the input has no weight, instead of that of the edge.
        a: the coefficient of the cubic filter.
    """

    mode: str
    transform: str
    antialias: bool = False
    exclude_outside: bool = False
    a: float = -0.75


def taps(axis: Axis, smooth: Smooth) -> Taps:
    """Return what each output element is mixed from.

    Raises:
        ValueError: there is no such mode or coordinate_transformation_mode.
    """
    if smooth.mode not in ("linear", "cubic"):
        raise ValueError(f"mode {smooth.mode!r} does not exist, or not with antialias={int(smooth.antialias)}")
    place = places(axis, smooth.transform)
    if smooth.antialias:
        return _antialiased(axis, place, smooth)
    return _linear(axis, place) if smooth.mode == "linear" else _cubic(axis, place, smooth)


def _linear(axis: Axis, place: Array) -> Taps:
    place = place.clip(0, axis.size - 1)
    low = np.floor(place)
    high = np.minimum(low + 1, axis.size - 1)
    # At the edge both neighbours are the same element; that each has half is what ONNX Runtime does.
    weights = np.where((low == high)[:, None], f32(0.5), np.stack([high - place, place - low], 1))
    return Taps(np.stack([low, high], 1).astype(np.int64), weights.astype(f32))


def _keys(distance: Array, coefficient: float) -> Array:
    """Return the weight of an element at a distance (R. Keys, Cubic convolution interpolation, 1981)."""
    d, a = np.abs(distance), f32(coefficient)
    near = ((a + f32(2)) * d - (a + f32(3))) * d * d + f32(1)
    far = ((d - f32(5)) * d + f32(8)) * d * a - f32(4) * a
    return np.where(d < 1, near, np.where(d < 2, far, f32(0)))


def _cubic(axis: Axis, place: Array, smooth: Smooth) -> Taps:
    whole = np.floor(place)
    steps = np.arange(-1, 3, dtype=f32)
    return _inside(axis, whole[:, None] + steps, _keys(steps - (place - whole)[:, None], smooth.a), smooth)


def _antialiased(axis: Axis, place: Array, smooth: Smooth) -> Taps:
    """Return the taps of a filter that covers every input element as the axis shrinks."""
    widening = max(f32(1) / axis.scale, f32(1))
    support = (1 if smooth.mode == "linear" else 2) * widening
    centre = place + f32(0.5)
    first = np.floor(centre - support + f32(0.5))
    index = first[:, None] + np.arange(2 * int(np.ceil(support)) + 1, dtype=f32)
    distance = (index - centre[:, None] + f32(0.5)) / widening
    weights = _keys(distance, smooth.a) if smooth.mode == "cubic" else (f32(1) - np.abs(distance)).clip(0)
    return _inside(axis, index, _normalised(weights), smooth)


def _inside(axis: Axis, index: Array, weights: Array, smooth: Smooth) -> Taps:
    if smooth.exclude_outside:
        weights = _normalised(np.where((index >= 0) & (index < axis.size), weights, f32(0)))
    return Taps(index.clip(0, axis.size - 1).astype(np.int64), weights.astype(f32))


def _normalised(weights: Array) -> Array:
    total = weights.sum(1, keepdims=True)
    return weights / np.where(total == 0, f32(1), total)
