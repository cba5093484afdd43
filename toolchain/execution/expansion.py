"""Operators that ONNX defines by other operators: their function bodies stand in where no own function does.

Source: ONNX operator schemas, "function body".
"""

from collections.abc import Mapping
from functools import cached_property

import onnx

from toolchain.graph import Graph, Node, instantiate, read_opsets


class Types:
    """The element types and shapes of a graph's values, inferred when they are first asked for."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def __getitem__(self, name: str) -> onnx.TypeProto:
        return self._inferred.get(name, onnx.TypeProto())

    @cached_property
    def _inferred(self) -> Mapping[str, onnx.TypeProto]:
        try:
            graph = onnx.shape_inference.infer_shapes(_without_weights(self._graph)).graph
        except (onnx.shape_inference.InferenceError, ValueError):
            return {}  # what needs types is then left to ONNX Runtime
        return {value.name: value.type for value in (*graph.input, *graph.output, *graph.value_info)}


def _without_weights(graph: Graph) -> onnx.ModelProto:
    """Return the model with its larger initializers as inputs, so that inference copies no weights."""
    proto, source = onnx.ModelProto(), graph.proto
    proto.ir_version = source.ir_version
    proto.opset_import.extend(source.opset_import)
    proto.functions.extend(source.functions)
    proto.graph.name = source.graph.name
    proto.graph.node.extend(source.graph.node)
    proto.graph.output.extend(source.graph.output)
    proto.graph.input.extend(value for value in source.graph.input if value.name not in graph.initializers)
    for tensor in source.graph.initializer:
        if len(tensor.dims) < 2:
            proto.graph.initializer.append(tensor)  # shapes and axes: inference reads their values
        else:
            info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            proto.graph.input.append(info)
    return proto


def expand(node: Node, types: Types, taken: set[str]) -> tuple[list[onnx.NodeProto], dict[str, int]]:
    """Return the nodes that do what ``node`` does, and the versions that they are written for.

    There are none where ONNX gives the operator no function body.

    Args:
        node: of the typed graph.
        types: of its inputs.
        taken: names of other values; those that are made inside are added.
    """
    try:
        schema = onnx.defs.get_schema(node.op, node.opsets.get(node.domain, 1), node.domain)
    except onnx.defs.SchemaError:
        return [], {}
    function = _function(schema, node, types)
    if not function.node:
        return [], {}
    opsets = {**node.opsets, **read_opsets(function.opset_import)}
    # What a function body depends on may be in its constants, so calls of one operator do not share them.
    return instantiate(function, _call(schema, node), node.name, node.name, taken), opsets


def _function(schema: onnx.defs.OpSchema, node: Node, types: Types) -> onnx.FunctionProto:
    """Return the newest function body that the node's version of ai.onnx knows, or an empty one."""
    # onnx's type stub lacks what a schema says about functions.
    fixed, dependent = schema.function_opset_versions, schema.context_dependent_function_opset_versions  # type: ignore[attr-defined]
    known = node.opsets.get("", 1)
    function = onnx.FunctionProto()
    if version := _newest(dependent, known):
        inputs = [types[name].SerializeToString() for name in node.inputs]
        call = _call(schema, node).SerializeToString()
        try:
            data = schema.get_context_dependent_function_with_opset_version(version, call, inputs)  # type: ignore[attr-defined]
        except (RuntimeError, ValueError):
            return function  # a type that the body depends on is not known
        function.ParseFromString(data)
    elif version := _newest(fixed, known):
        function.ParseFromString(schema.get_function_with_opset_version(version))  # type: ignore[attr-defined]
    return function


def _newest(versions: list[int], known: int) -> int:
    return max((version for version in versions if version <= known), default=0)


def _call(schema: onnx.defs.OpSchema, node: Node) -> onnx.NodeProto:
    """Return the node under the typed graph's names, completed by the schema's defaults."""
    call = onnx.NodeProto()
    call.CopyFrom(node.proto)
    call.input[:] = node.inputs
    call.output[:] = node.outputs
    given = {attribute.name for attribute in call.attribute}
    defaults = (spec.default_value for name, spec in schema.attributes.items() if name not in given)
    call.attribute.extend(default for default in defaults if default.name)
    return call
