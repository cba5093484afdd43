"""Reads from the graph what its inputs look like: sizes, ranges and meanings, where no data show them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from calibration.fit import model_layout
from toolchain.errors import DataError
from toolchain.graph import Graph, Node, Value

# Sizes of dimensions that the model leaves open.
_SPATIAL, _SEQUENCE, _CHANNELS = 224, 32, 3

_SHAPE_ONLY = ("Cast", "Clip", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")

_HINT = "give samples with --data"


@dataclass(frozen=True)
class Signal:
    """What one model input takes.

    Attributes:
        name: of the input.
        dtype: of the input.
        shape: of one sample, without the batch dimension.
        meaning: how values are drawn.
        spatial: the dimensions of ``[N, *shape]`` that an image extends over; empty for what is no image.
        high: ids are below it.
        free: what was assumed of dimensions that the model leaves open, such as ``"height = 224"``.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    meaning: Literal["image", "noise", "ids", "mask"]
    spatial: tuple[int, ...]
    high: int
    free: tuple[str, ...]


def read_signature(graph: Graph) -> tuple[Signal, ...]:
    """Return what each input of ``graph`` takes; a symbol that several inputs share has one size.

    Raises:
        DataError: an input has no shape, no batch dimension, or is not numeric.
    """
    symbols: dict[str, int] = {}
    return tuple(_signal(graph, value, symbols) for value in graph.inputs)


def _signal(graph: Graph, value: Value, symbols: dict[str, int]) -> Signal:
    if not value.shape:
        state = "is a scalar" if value.shape == () else "has no shape"
        raise DataError(f"model input {value.name!r} {state}, so no inputs can be synthesised", hint=_HINT)
    if value.dtype.kind not in "fiub":
        raise DataError(f"model input {value.name!r} is {value.dtype}, which cannot be synthesised", hint=_HINT)
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


def _meaning(value: Value, high: int) -> Literal["image", "noise", "ids", "mask"]:
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
