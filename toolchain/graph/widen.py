"""Models of half precision as models of float32 with the same inputs and outputs.

Processors have no float16 kernels in ONNX Runtime: a session casts to float32 and back around every node. Compressed
weights are float32 or integers anyway, so the rest of the graph is float32 too. Constants take no more bytes for it:
what float16 holds is stored as such when the model is written.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from toolchain.graph.build import build_graph
from toolchain.graph.model import Graph
from toolchain.graph.names import take_name

_HALF, _FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT

# Attributes that name an element type.
_TYPES = ("dtype", "output_dtype", "stash_type", "to")


def widen(graph: Graph) -> tuple[Graph, str]:
    """Return the graph with float32 in place of float16, and a sentence about it; as it is where it has no such weight.

    Inputs and outputs keep their types behind a Cast each. Models with subgraphs or functions stay as they are.
    """
    weights = sum(graph.initializers.dtype(name) == np.float16 for name in graph.initializers)
    has_bodies = any(node.bodies for node in graph.nodes) or graph.proto.functions
    if not weights or has_bodies or graph.is_mapped:
        return graph, ""
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    proto.graph.ClearField("value_info")
    proto.graph.ClearField("sparse_initializer")
    proto.graph.ClearField("initializer")
    constants = [item.name for item in graph.proto.graph.initializer]
    constants += [item.values.name for item in graph.proto.graph.sparse_initializer]
    proto.graph.initializer.extend(_wide(graph.initializers[name], name) for name in constants)
    for node in proto.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t") and attribute.t.data_type == _HALF:
                attribute.t.CopyFrom(_wide(numpy_helper.to_array(attribute.t), attribute.t.name))
            elif attribute.name in _TYPES and attribute.i == _HALF:
                attribute.i = _FLOAT
    _cast_ports(proto.graph, {value.name for value in graph.inputs})
    return build_graph(proto, graph.path), f"its {weights} float16 constants are computed with in float32"


def _wide(array: np.ndarray, name: str) -> onnx.TensorProto:
    return numpy_helper.from_array(array.astype(np.float32) if array.dtype == np.float16 else array, name)


def _cast_ports(graph: onnx.GraphProto, fed: set[str]) -> None:
    """Put a Cast behind every float16 input and before every float16 output."""
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    nodes = list(graph.node)
    before, after = [], []
    for value in graph.input:
        if value.type.tensor_type.elem_type != _HALF:
            continue
        if value.name not in fed:  # a constant that is listed as an input
            value.type.tensor_type.elem_type = _FLOAT
            continue
        inner = take_name(f"{value.name}_float", taken)
        before.append(helper.make_node("Cast", [value.name], [inner], to=_FLOAT))
        _rename(nodes, value.name, inner)
    for value in graph.output:
        if value.type.tensor_type.elem_type == _HALF and value.name not in fed:
            inner = take_name(f"{value.name}_float", taken)
            _rename(nodes, value.name, inner)
            for constant in (item for item in graph.initializer if item.name == value.name):
                constant.name = inner
            for listed in (item for item in graph.input if item.name == value.name):
                listed.name = inner
            after.append(helper.make_node("Cast", [inner], [value.name], to=_HALF))
    graph.ClearField("node")
    graph.node.extend([*before, *nodes, *after])


def _rename(nodes: list[onnx.NodeProto], old: str, new: str) -> None:
    for node in nodes:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new
