"""Brings weights that lie in functions and subgraphs to the outermost graph, where exporters can replace them."""

from dataclasses import replace

import onnx
from onnx import helper, numpy_helper

from toolchain.graph.constants import IR_FREE_INITIALIZERS
from toolchain.graph.functions import is_constant
from toolchain.graph.io import load_graph
from toolchain.graph.model import Body, Graph, Node
from toolchain.graph.names import take_name


def flatten(graph: Graph) -> Graph:
    """Replace the calls of the model's own functions by what they do, and move the constants of subgraphs outwards.

    Every value keeps the name that it has in ``graph``, so weights keep theirs. What several calls of a function share
    stays shared. The same graph comes back where nothing that might train is nested.
    """
    outermost = _constant_names(graph.proto.graph)
    used = {name for node in graph.walk() for name in node.inputs if name in graph.initializers}
    nested = any(graph.initializers.dtype(name).kind == "f" for name in used - outermost)
    if not graph.proto.functions and not nested:
        return graph
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    del proto.functions[:]
    constants = [node for node in graph.proto.graph.node if is_constant(node)]
    del proto.graph.node[:]
    proto.graph.node.extend([*constants, *(written(node) for node in graph.nodes)])
    moved = [name for name in graph.initializers if name not in outermost]
    proto.graph.initializer.extend(numpy_helper.from_array(graph.initializers[name], name) for name in moved)
    proto.ir_version = max(proto.ir_version, IR_FREE_INITIALIZERS)
    versions = {domain: version for node in graph.walk() for domain, version in node.opsets.items()}
    domains = sorted({node.domain for node in graph.walk()} - set(graph.opsets))
    proto.opset_import.extend(helper.make_opsetid(domain, versions.get(domain, 1)) for domain in domains)
    return replace(load_graph(proto), path=graph.path)


def _constant_names(graph: onnx.GraphProto) -> set[str]:
    names = {tensor.name for tensor in graph.initializer} | {sparse.values.name for sparse in graph.sparse_initializer}
    return names | {node.output[0] for node in graph.node if is_constant(node)}


def written(node: Node) -> onnx.NodeProto:
    """Return the node's proto under the names of the typed graph; its subgraphs hold no constants of their own."""
    proto = onnx.NodeProto()
    proto.CopyFrom(node.proto)
    proto.name = node.name
    proto.input[:] = node.inputs
    proto.output[:] = node.outputs
    for attribute in proto.attribute:
        graphs = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
        held = node.attributes[attribute.name]
        bodies = held if isinstance(held, list) else [held]
        for graph, body in zip(graphs, bodies, strict=False):  # an attribute that is no graph has none to pair
            if isinstance(body, Body):
                _write_body(graph, body)
    return proto


def _write_body(graph: onnx.GraphProto, body: Body) -> None:
    """Write a subgraph without constants of its own into ``graph``, which holds it as the file has it."""
    for field in ("node", "initializer", "sparse_initializer", "value_info"):
        graph.ClearField(field)
    graph.node.extend(written(node) for node in body.nodes)
    for value, name in zip(graph.input, body.inputs, strict=True):
        value.name = name
    made = {name for node in body.nodes for name in node.outputs} | set(body.inputs)
    for value, name in zip(graph.output, body.outputs, strict=True):
        value.name = name
        if name not in made:  # a subgraph must make what it gives back
            value.name = take_name(f"{name}/out", made)
            graph.node.append(helper.make_node("Identity", [name], [value.name]))
