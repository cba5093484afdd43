"""Constants that a graph computes, as values where those are smaller: exporters write shapes as nodes."""

from collections import Counter
from itertools import chain

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from toolchain.errors import ExportError
from toolchain.export.builder import make_tensor
from toolchain.export.sessions import open_session, run_outputs
from toolchain.graph import RANDOM

# Elements of a constant above which it is not looked at: what makes more is decoding.
_LARGEST = 256
# What a graph takes for an entry beside its bytes: a tag and a length.
_ENTRY_BYTES = 2
# Left as they are: what may be random, and levels with their scale, which an integer kernel takes instead of numbers.
_LEFT = {*RANDOM, "DequantizeLinear", "Dropout", "QuantizeLinear"}


def fold_small(proto: onnx.ModelProto) -> None:
    """Replace, in place, the nodes that compute a small constant by its value where the file gets smaller by that.

    Args:
        proto: without subgraphs, of an IR version whose initializers need not be inputs.
    """
    graph = proto.graph
    for name, value in _small_constants(proto).items():
        gone = _only_for(graph, name)
        tensor = make_tensor(value, name)
        if sum(item.ByteSize() + _ENTRY_BYTES for item in gone) > tensor.ByteSize() + _ENTRY_BYTES:
            for field in ("node", "initializer"):
                kept = [item for item in getattr(graph, field) if not any(item is other for other in gone)]
                graph.ClearField(field)
                getattr(graph, field).extend(kept)
            graph.initializer.append(tensor)


def _small_constants(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Return the values that nodes compute from a few numbers, and that others take which do not."""
    graph = proto.graph
    inputs = {value.name for value in graph.input}
    leaves = {item.name: item for item in graph.initializer if item.name not in inputs}
    known = {name for name, item in leaves.items() if np.prod(item.dims) <= _LARGEST} | {""}
    cone = [node for node in graph.node if _is_constant(node, known)]
    made = {node.output[0] for node in cone}
    taken = {name for node in graph.node if not made.intersection(node.output) for name in node.input}
    names = sorted(made & taken)
    if not names:
        return {}
    used = {name for node in cone for name in node.input}
    alone = helper.make_model(
        helper.make_graph(
            cone,
            "constants",
            [],
            [helper.make_empty_tensor_value_info(name) for name in names],
            [item for name, item in leaves.items() if name in used],
        ),
        opset_imports=proto.opset_import,
        ir_version=proto.ir_version,
    )
    try:
        values = run_outputs(open_session(alone, threads=1), names, {})
    except ExportError:  # it need not be: the whole model may be what makes a type known
        return {}
    return {name: value for name, value in zip(names, values, strict=True) if _fits(value)}


def _is_constant(node: NodeProto, known: set[str]) -> bool:
    """Return whether a node computes one value of what is ``known``, always the same, and count that as known then."""
    if node.domain not in ("", "ai.onnx") or node.op_type in _LEFT or len(node.output) != 1:
        return False
    if not known.issuperset(node.input):
        return False
    known.update(node.output)
    return True


def _fits(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "fiub" and 0 < value.size <= _LARGEST


def _only_for(graph: onnx.GraphProto, name: str) -> list[NodeProto | TensorProto]:
    """Return the nodes and initializers that nothing but the value ``name`` needs, those that compute it included."""
    makers: dict[str, NodeProto | TensorProto] = {item.name: item for item in graph.initializer}
    makers |= {node.output[0]: node for node in graph.node if len(node.output) == 1}
    uses = Counter(chain.from_iterable(node.input for node in graph.node))
    uses.update(value.name for value in chain(graph.input, graph.output))
    found, waiting = [], [makers[name]]
    while waiting:
        item = waiting.pop()
        found.append(item)
        for taken in item.input if isinstance(item, NodeProto) else ():
            uses[taken] -= 1
            if not uses[taken] and taken in makers:
                waiting.append(makers[taken])
    return found
