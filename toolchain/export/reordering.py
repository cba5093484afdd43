"""Channels that were put back in order only to be read in another: the Gathers of both become one, or none.

Groups of channels are computed side by side, and a Gather puts their outputs back in order. It moves behind operators
that treat all channels alike, so that the runtime fuses those with the convolution; where a Gather follows, the two are
one; a sum of values in the same order stays in it, so that a residual stream is put in order once, where it ends.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from toolchain.export.builder import Builder, make_node
from toolchain.export.gathered import indices
from toolchain.graph import names_read
from toolchain.graph.streams import CHANNELWISE

# Operators that do the same to every channel of their first input, whatever else they take.
_ALIKE = CHANNELWISE | {"GlobalAveragePool", "GlobalMaxPool"}
_OF_ONE_SCALE = ("DequantizeLinear", "QuantizeLinear")
_OF_TWO = ("Add", "Mul")

# A value by its source: the name, and which channel of that each of its own is.
Order = tuple[str, np.ndarray]


def merge_orders(nodes: Sequence[onnx.NodeProto], builder: Builder, outputs: Sequence[str]) -> list[onnx.NodeProto]:
    """Return nodes that compute the same with fewer Gathers of channels.

    Args:
        nodes: of a graph, in topological order; those that change are copied.
        builder: with the indices of the Gathers that may go; others are not touched.
        outputs: of the graph.
    """
    known, scalars = _index_constants(builder), _scalars(builder)
    if not known:
        return list(nodes)
    orders: dict[str, Order] = {}
    found: list[onnx.NodeProto] = []
    ours: set[int] = set()
    for node in nodes:
        order = _order_of(node, orders, known, scalars)
        if order is None:
            found.append(node)
            continue
        made, orders[node.output[0]] = _instead(node, order, orders, builder)
        found += made
        ours.update(map(id, made))
    return _without_unread(found, ours, outputs)


def _order_of(
    node: onnx.NodeProto, orders: Mapping[str, Order], known: Mapping[str, np.ndarray], scalars: set[str]
) -> Order | None:
    """Return what a node's output is of its source, or of what the node would make of that; None if it stays."""
    if node.domain or not node.input or len(node.output) != 1:
        return None
    first = orders.get(node.input[0])
    if node.op_type == "Gather":
        places = known.get(node.input[1])
        if places is None or not any(item.name == "axis" and item.i == 1 for item in node.attribute):
            return None
        return (node.input[0], places) if first is None else (first[0], first[1][places])
    if first is None:
        return None
    is_alike = node.op_type in _ALIKE or (node.op_type in _OF_ONE_SCALE and scalars.issuperset(node.input[1:]))
    if node.op_type in _OF_TWO:
        second = orders.get(node.input[1])
        is_alike = second is not None and np.array_equal(first[1], second[1])
    return first if is_alike else None


def _instead(
    node: onnx.NodeProto, order: Order, orders: Mapping[str, Order], builder: Builder
) -> tuple[list[onnx.NodeProto], Order]:
    """Return what makes a node's output, and that as it is in another order; what of both is not read goes later."""
    output, (source, places) = node.output[0], order
    made = []
    if node.op_type != "Gather":
        source = builder.fresh()
        made.append(_moved(node, orders, source))
    if node.op_type == "DequantizeLinear":  # whoever reads it wants levels right before
        return [*made, node], (source, places)
    gather = make_node("Gather", [source, indices(builder, places)], [output], {"axis": 1})
    return [*made, gather], (source, places)


def _moved(node: onnx.NodeProto, orders: Mapping[str, Order], output: str) -> onnx.NodeProto:
    """Return a node that works on the sources of its inputs."""
    moved = onnx.NodeProto()
    moved.CopyFrom(node)
    moved.input[:] = [orders[name][0] if name in orders else name for name in node.input]
    moved.output[0] = output
    return moved


def _index_constants(builder: Builder) -> dict[str, np.ndarray]:
    """Return the vectors of integers that the builder holds, also those behind a Cast, by name."""
    plain = {
        item.name: numpy_helper.to_array(item)
        for item in builder.initializers
        if len(item.dims) == 1 and item.data_type in (onnx.TensorProto.INT32, onnx.TensorProto.UINT16)
    }
    casts = {node.output[0]: node.input[0] for node in builder.nodes if node.op_type == "Cast"}
    plain |= {name: plain[source] for name, source in casts.items() if source in plain}
    return {name: array.astype(np.int64) for name, array in plain.items()}


def _scalars(builder: Builder) -> set[str]:
    return {item.name for item in builder.initializers if not item.dims} | {""}


def _without_unread(nodes: Sequence[onnx.NodeProto], ours: set[int], outputs: Sequence[str]) -> list[onnx.NodeProto]:
    """Return the nodes but for those of ours whose output nobody reads."""
    read, kept = set(outputs), []
    for node in reversed(nodes):
        if id(node) not in ours or node.output[0] in read:
            kept.append(node)
            read |= names_read(node)
    return kept[::-1]
