"""Reads from the graph what its inputs look like: sizes, ranges and meanings, where no data show them."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from calibration.fit import model_layout
from toolchain.errors import DataError
from toolchain.graph import Graph, Node, Value

# Sizes of dimensions that the model leaves open.
_SPATIAL, _SEQUENCE, _CHANNELS = 224, 32, 3

_SHAPE_ONLY = ("Cast", "Clip", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")

_HINT = "give samples with --data"

Meaning = Literal["image", "noise", "ids", "mask", "scalar"]


@dataclass(frozen=True)
class Signal:
    """What one model input takes.

    Attributes:
        name: of the input.
        dtype: of the input.
        shape: of one row, without the first dimension; ``()`` for a scalar.
        meaning: how values are drawn.
        spatial: the dimensions of ``[N, *shape]`` that an image extends over; empty for what is no image.
        high: ids are below it.
        free: what was assumed of dimensions that the model leaves open, such as ``"height = 224"``.
        rows: how many rows make a sample where that is a whole set of inputs; None where a row is a sample, and for a
            scalar.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    meaning: Meaning
    spatial: tuple[int, ...]
    high: int
    free: tuple[str, ...]
    rows: int | None = None

    @property
    def sample(self) -> tuple[int, ...]:
        """The shape of what one sample gives this input."""
        return self.shape if self.rows is None else (self.rows, *self.shape)


def read_signature(graph: Graph) -> tuple[Signal, ...]:
    """Return what each input of ``graph`` takes; a symbol that several inputs share has one size.

    Raises:
        DataError: an input has no shape, or is not numeric.
    """
    if not graph.takes_sets:
        symbols: dict[str, int] = {}
        return tuple(_signal(graph, value, symbols) for value in graph.inputs)
    # A first dimension that is open is most often the batch, also where it is a later dimension of another input.
    symbols = {value.shape[0]: 1 for value in graph.inputs if value.shape and isinstance(value.shape[0], str)}
    return tuple(_whole(_signal(graph, value, symbols), value) for value in graph.inputs)


def _whole(signal: Signal, value: Value) -> Signal:
    """Return the signal of an input of which a sample has all rows."""
    if not value.shape:
        return signal
    first = value.shape[0]
    if isinstance(first, int):
        return replace(signal, rows=first)
    return replace(signal, rows=1, free=(f"{first or 'dimension 0'} = 1", *signal.free))


def _signal(graph: Graph, value: Value, symbols: dict[str, int]) -> Signal:
    if value.shape is None:
        raise DataError(f"model input {value.name!r} has no shape, so no inputs can be synthesised", hint=_HINT)
    if value.dtype.kind not in "fiub":
        raise DataError(f"model input {value.name!r} is {value.dtype}, which cannot be synthesised", hint=_HINT)
    if not value.shape:
        return Signal(value.name, value.dtype, (), "scalar", (), 2, ())
    rank = len(value.shape)
    layout = model_layout(graph, value) if rank == 4 else "nchw"
    spatial = () if rank < 4 else (1, 2) if layout == "nhwc" else tuple(range(2, rank))
    shape, free = [], []
    for axis, dim in enumerate(value.shape[1:], 1):
        if isinstance(dim, int) and dim > 0:
            shape.append(dim)
            continue
        size = _feature_size(graph, value.name, axis, rank)
        if not size and dim in symbols:
            size = symbols[dim]
        if not size:
            size = _SPATIAL if axis in spatial else _SEQUENCE if rank < 4 else _CHANNELS
            free.append(f"{dim or f'dimension {axis}'} = {size}")
        if isinstance(dim, str):
            symbols[dim] = size
        shape.append(size)
    high = _table_size(graph, value.name)
    return Signal(value.name, value.dtype, tuple(shape), _meaning(value, high), spatial, high or 2, tuple(free))


def _meaning(value: Value, high: int) -> Meaning:
    if value.dtype.kind == "b" or "mask" in value.name.lower():
        return "mask"
    rank = len(value.shape or ())
    if value.dtype.kind == "f" or (value.dtype == np.uint8 and not high):
        return "image" if rank >= 4 else "noise"
    return "ids"


def _feature_size(graph: Graph, name: str, axis: int, rank: int) -> int:
    """Return the size of dimension ``axis`` that the weights of a direct consumer ask for, or 0."""
    for node, position in graph.consumers().get(name, []):
        weight = graph.initializers.get(node.inputs[1]) if len(node.inputs) > 1 else None
        if weight is None or position != 0 or weight.ndim < 2:
            continue
        if node.op == "Conv" and axis == 1:
            return int(weight.shape[1]) * _integer(node, "group")
        if node.op == "MatMul" and axis == rank - 1:
            return int(weight.shape[-2])
        if node.op == "Gemm" and axis == 1:
            return int(weight.shape[1 if _integer(node, "transB") else 0])
    return 0


def _integer(node: Node, attribute: str) -> int:
    value = node.attributes.get(attribute, 0)
    return value if isinstance(value, int) else 0


def _table_size(graph: Graph, name: str) -> int:
    """Return how many rows the smallest table has that the input indexes by Gather, or 0."""
    consumers, pending, sizes = graph.consumers(), [name], []
    while pending:
        for node, position in consumers.get(pending.pop(), []):
            if node.op == "Gather" and position == 1 and node.inputs[0] in graph.initializers:
                sizes.append(graph.initializers[node.inputs[0]].shape[_integer(node, "axis")])
            elif node.op in _SHAPE_ONLY and position == 0:
                pending += node.outputs
    return min(sizes, default=0)
