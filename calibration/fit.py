"""Fits raw arrays to the model's input signature, or says what does not fit."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from calibration.dataset import Dataset, Feed, Kind, Layout, Preprocessing
from calibration.labels import to_labels
from toolchain.errors import DataError, nearest
from toolchain.graph import Graph, Value

# Rows checked at a time: bounds the temporary memory.
_CHUNK = 4096

_TO_NCHW = (0, 3, 1, 2)
_TO_NHWC = (0, 2, 3, 1)
_ELEMENTWISE = ("Add", "Cast", "Clip", "Div", "Identity", "Mul", "QuantizeLinear", "DequantizeLinear", "Sub")


@dataclass(frozen=True)
class Fitted:
    """A data set that fits the model, and what the user should know about it."""

    dataset: Dataset
    notes: tuple[str, ...]


def fit_arrays(
    arrays: Mapping[str, np.ndarray],
    labels: np.ndarray | None,
    graph: Graph,
    preprocessing: Preprocessing,
    source: str,
) -> Fitted:
    """Return a data set of ``arrays`` by input name, arranged as the inputs of ``graph`` want them.

    Raises:
        DataError: a name, shape, type or value does not fit; the message says which, got and expected.
    """
    check_names(list(arrays), graph, source)
    inputs, feeds, notes = {}, {}, []
    images = {value.name for value in graph.inputs if value.dtype.kind == "f" and len(value.shape or ()) == 4}
    floats = {value.name for value in graph.inputs if value.dtype.kind == "f" and value.shape != ()}
    for value in graph.inputs:
        where = f"{source}: array for input {value.name!r}"
        array, axis = _arrange(arrays[value.name], value, graph, preprocessing.layout, where)
        normalise = value.name in (images or floats)
        feeds[value.name] = Feed(value.dtype, axis, normalise)
        inputs[value.name] = array
        check_values(array, value.dtype, where)
        if normalise:
            _check_channels(array, axis, preprocessing, where)
            if array.dtype == np.uint8 and preprocessing.is_identity and array.max() > 1:
                notes.append(
                    f"input {value.name!r} is fed raw values 0 to {array.max()}, as no --scale, --mean or --std was "
                    "given: give them if the model was trained on normalised pixels"
                )
    checked = None if labels is None else to_labels(labels, source)
    kind: Kind = "unlabelled" if labels is None else "task"
    return Fitted(Dataset(inputs, checked, preprocessing, kind, source, feeds, graph.takes_sets), tuple(notes))


def check_names(names: list[str], graph: Graph, source: str) -> None:
    """Check that there is an array for every input, and no other.

    Raises:
        DataError: with the names that are missing or unknown, and the nearest ones.
    """
    wanted = [value.name for value in graph.inputs]
    missing = [name for name in wanted if name not in names]
    unknown = [name for name in names if name not in wanted]
    if missing:
        have = f"it has {', '.join(map(repr, names))}" if names else "it has none"
        raise DataError(
            f"{source}: no array for model input {', '.join(map(repr, missing))}; {have}",
            hint=f"name the arrays after the model's inputs ({', '.join(wanted)})"
            + (f"; {nearest(missing[0], names)}" if names else ""),
        )
    if unknown:
        raise DataError(
            f"{source}: array {unknown[0]!r} is no input of the model",
            hint=f"{nearest(unknown[0], wanted)} Labels are named 'labels' or 'y'.",
        )


def model_layout(graph: Graph, value: Value) -> Layout:
    """Return where the model wants the channels of a four-dimensional input.

    ONNX convolutions are NCHW; a model from an NHWC framework transposes its input first.
    """
    consumers, name = graph.consumers(), value.name
    while len(uses := consumers.get(name, [])) == 1:
        node = uses[0][0]
        if node.op == "Transpose":
            return "nhwc" if node.attributes.get("perm") == list(_TO_NCHW) else "nchw"
        if node.op not in _ELEMENTWISE:
            break
        name = node.outputs[0]
    return "nchw"


def describe(value: Value) -> str:
    """Return dtype and shape of an input as a person reads it: ``float32[batch, 1, 28, 28]``."""
    shape = "?" if value.shape is None else ", ".join(str(dim if dim is not None else "?") for dim in value.shape)
    return f"{value.dtype}[{shape}]"


def _fits(shape: tuple[int, ...], value: Value) -> bool:
    """Whether all dimensions but the first, which counts samples, agree with the signature."""
    if value.shape is None:
        return True
    return len(shape) == len(value.shape) and all(
        not isinstance(want, int) or got == want for got, want in zip(shape[1:], value.shape[1:], strict=True)
    )


def _arrange(
    array: np.ndarray, value: Value, graph: Graph, layout: Layout, where: str
) -> tuple[np.ndarray, int | None]:
    """Return a view of ``array`` in the model's order of dimensions, and its channel axis."""
    if graph.takes_sets:
        return _set(array, value, graph, where)
    if array.ndim == 0:
        raise DataError(f"{where} is a scalar, expected {describe(value)}", hint="the first dimension counts samples")
    if value.shape is None or len(value.shape) != 4:
        return _plain(array, value, where), 1 if array.ndim > 1 else None
    wanted = model_layout(graph, value)
    axis = 1 if wanted == "nchw" else 3
    if array.ndim != 4:
        return _with_channel(array, value, axis, where), axis
    as_layout = {"nchw": array, "nhwc": array}
    if wanted == "nchw":
        as_layout["nhwc"] = array.transpose(_TO_NCHW)
    else:
        as_layout["nchw"] = array.transpose(_TO_NHWC)
    fitting = [name for name, view in as_layout.items() if layout in ("auto", name) and _fits(view.shape, value)]
    if not fitting:
        raise _misfit(array, value, where, "" if layout == "auto" else f" read as {layout}")
    if len(fitting) > 1:
        raise DataError(
            f"{where} has shape {list(array.shape)}, which fits {describe(value)} as nchw and as nhwc",
            hint="say where the channels of the data are: --layout nchw or --layout nhwc",
        )
    return as_layout[fitting[0]], axis


def _set(array: np.ndarray, value: Value, graph: Graph, where: str) -> tuple[np.ndarray, int | None]:
    """Return ``array``, which holds inputs of the model's own shape one after the other, and its channel axis."""
    whole = value if value.shape is None else replace(value, shape=("N", *value.shape))
    if not array.ndim or not _fits(array.shape, whole):
        raise DataError(
            f"{where} has shape {list(array.shape)}, expected {describe(whole)}",
            hint="a sample of this model is one whole set of inputs: the first dimension counts samples, and those of "
            "the model's input follow, all of them; an input that is a scalar has one number per sample",
        )
    last = array.ndim == 5 and model_layout(graph, value) == "nhwc"
    return array, 4 if last else 2 if array.ndim > 2 else None


def _plain(array: np.ndarray, value: Value, where: str) -> np.ndarray:
    if _fits(array.shape, value):
        return array
    flat = (len(array), int(np.prod(array.shape[1:], dtype=np.int64)))
    if array.ndim == 3 and _fits(flat, value):  # grey images [N, H, W] for a network of plain layers
        return array.reshape(flat)
    raise _misfit(array, value, where)


def _with_channel(array: np.ndarray, value: Value, axis: int, where: str) -> np.ndarray:
    """Return ``[N, H, W]`` or ``[N, H * W]`` data of a one-channel model with its channel axis."""
    shape = value.shape or ()
    if shape[axis] == 1 and array.ndim == 3 and _fits(np.expand_dims(array, axis).shape, value):
        return np.expand_dims(array, axis)
    sizes = [dim for dim in shape[1:] if isinstance(dim, int)]
    if shape[axis] == 1 and array.ndim == 2 and len(sizes) == 3 and array.shape[1] == np.prod(sizes):
        return array.reshape(len(array), *sizes)
    raise _misfit(array, value, where)


def _misfit(array: np.ndarray, value: Value, where: str, reading: str = "") -> DataError:
    return DataError(
        f"{where} has shape {list(array.shape)}{reading}, expected {describe(value)}",
        hint="the first dimension counts samples, the others must be the model's",
    )


def check_values(array: np.ndarray, dtype: np.dtype, where: str) -> None:
    """Check that ``array`` can be fed as ``dtype`` without loss, and that floats are finite.

    Raises:
        DataError: with the dtypes, or with the first bad value and its index.
    """
    if array.dtype.kind not in "iubf" or (dtype.kind in "iu" and array.dtype.kind == "f"):
        raise DataError(f"{where} is {array.dtype}, expected {dtype}", hint=f"convert it to {dtype} and save it again")
    if dtype.kind == "b" and array.dtype.kind != "b":
        raise DataError(f"{where} is {array.dtype}, expected bool", hint="save array.astype(bool)")
    if dtype.kind in "iu" and array.dtype.kind in "iu" and array.size:
        low, high, limits = int(array.min()), int(array.max()), np.iinfo(dtype)
        if low < limits.min or high > limits.max:
            raise DataError(f"{where} holds {low} to {high}, which {dtype} cannot hold")
    if array.dtype.kind == "f":
        for start in range(0, len(array), _CHUNK):
            finite = np.isfinite(array[start : start + _CHUNK])
            if not finite.all():
                at = np.argwhere(~finite)[0] + np.array([start] + [0] * (array.ndim - 1))
                raise DataError(
                    f"{where} holds {array[tuple(at)]} at index {at.tolist()}",
                    hint="remove or repair samples that are NaN or infinite",
                )


def check_variety(data: Dataset, graph: Graph) -> None:
    """Check that something varies over samples to train or calibrate on: what is found on one value means nothing.

    A side input may well be constant: a sampling rate, a mask of ones, a first state of zeros. So data are refused
    only where no input varies and one that takes floats has more than one number.

    Raises:
        DataError: with the inputs and their values.
    """
    floats = [value.name for value in graph.inputs if value.dtype.kind == "f" and data.inputs[value.name].size > 1]
    if not floats or not all(map(_is_constant, data.inputs.values())):
        return
    found = ", ".join(f"input {name!r} is {data.inputs[name].flat[0]} throughout" for name in floats)
    raise DataError(
        f"{data.source}: nothing varies over its {len(data)} samples: {found}",
        hint="give samples as the model meets them in use: ranges and errors cannot be found on a constant",
    )


def _is_constant(array: np.ndarray) -> bool:
    first = array.flat[0] if array.size else None
    return all(bool((array[start : start + _CHUNK] == first).all()) for start in range(0, len(array), _CHUNK))


def _check_channels(array: np.ndarray, axis: int | None, preprocessing: Preprocessing, where: str) -> None:
    channels = 1 if axis is None else array.shape[axis]
    for name, values in (("mean", preprocessing.mean), ("std", preprocessing.std)):
        if len(values) not in (0, 1, channels):
            raise DataError(
                f"--{name} has {len(values)} values, {where.split(': ', 1)[-1]} has {channels} channels",
                hint=f"give one value for all channels, or {channels}",
            )
