"""Builds a ``Graph`` from a ``ModelProto``."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from toolchain.errors import ModelError
from toolchain.graph.functions import FunctionKey, function_key, instantiate, is_constant
from toolchain.graph.initializers import Constant, Initializers, constant_of
from toolchain.graph.model import MIN_OPSET, Attribute, Body, Graph, Node, Value

# Functions that call functions that call functions: deeper than any exporter nests them is a cycle.
MAX_CALL_DEPTH = 64


def build_graph(proto: onnx.ModelProto, path: Path | None = None) -> Graph:
    """Return the typed view of ``proto``.

    Raises:
        ModelError: the opset is older than 7, functions call each other in a circle, or a value has a type that is
            neither tensor, sequence nor optional.
    """
    opsets = read_opsets(proto.opset_import)
    if opsets.get("", 0) < MIN_OPSET:
        raise ModelError(
            f"the model uses ai.onnx opset {opsets.get('', 'none')}, at least {MIN_OPSET} is needed",
            hint="onnx.version_converter.convert_version(model, 13) raises it",
        )
    builder = _Builder({function_key(function): function for function in proto.functions})
    nodes = builder.top_level(proto.graph, opsets)
    return Graph(
        proto=proto,
        nodes=tuple(nodes),
        initializers=Initializers(builder.constants),
        inputs=tuple(_value(info) for info in proto.graph.input if info.name not in builder.constants),
        outputs=tuple(_value(info) for info in proto.graph.output),
        opsets=opsets,
        path=path,
    )


def build_nodes(
    protos: Iterable[onnx.NodeProto], opsets: Mapping[str, int]
) -> tuple[tuple[Node, ...], dict[str, Constant]]:
    """Return nodes that stand outside a model, such as those of an operator's function body, and their constants.

    Names are kept: the caller sees to it that they are unique.
    """
    builder = _Builder({})
    return tuple(builder.nodes(protos, _Scope({}, opsets))), builder.constants


def read_opsets(entries: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
    """Return the version by domain, ``""`` for ai.onnx."""
    return {entry.domain if entry.domain != "ai.onnx" else "": entry.version for entry in entries}


@dataclass(frozen=True)
class _Scope:
    """What names mean at one place of the model, and which versions are in force there."""

    names: Mapping[str, str]
    opsets: Mapping[str, int]
    depth: int = 0


@dataclass
class _Builder:
    """Gives every value and node of a model, wherever it is nested, a name of its own.

    Values of the outermost graph keep theirs, as they are what users see. Subgraphs that use a name for the second
    time, as the two branches of If may, get theirs prefixed by the name of the node that holds them.
    """

    functions: Mapping[FunctionKey, onnx.FunctionProto]
    constants: dict[str, Constant] = field(default_factory=dict)
    values: set[str] = field(default_factory=set)
    node_names: set[str] = field(default_factory=set)

    def top_level(self, graph: onnx.GraphProto, opsets: Mapping[str, int]) -> list[Node]:
        self.values |= _made_names(graph)
        self._take_initializers(graph, {})
        return self.nodes(graph.node, _Scope({}, opsets))

    def nodes(self, protos: Iterable[onnx.NodeProto], scope: _Scope) -> list[Node]:
        """Return nodes in order: constants are put aside, functions replaced by what they do."""
        found: list[Node] = []
        for index, proto in enumerate(protos):
            if is_constant(proto):
                name = proto.output[0]
                self.constants[scope.names.get(name, name)] = constant_of(proto)
                continue
            name = self._node_name(proto, index)
            function = self.functions.get(function_key(proto))
            if function is None:
                found.append(self._node(proto, name, scope))
            else:
                found += self._call(function, proto, name, scope)
        return found

    def _call(self, function: onnx.FunctionProto, proto: onnx.NodeProto, name: str, scope: _Scope) -> list[Node]:
        if scope.depth >= MAX_CALL_DEPTH:
            raise ModelError(f"function {function.name!r} calls itself, directly or through others")
        call = onnx.NodeProto()
        call.CopyFrom(proto)
        call.input[:] = [scope.names.get(value, value) for value in proto.input]
        call.output[:] = [scope.names.get(value, value) for value in proto.output]
        opsets = {**scope.opsets, **read_opsets(function.opset_import)}
        return self.nodes(instantiate(function, call, name), _Scope({}, opsets, scope.depth + 1))

    def _node(self, proto: onnx.NodeProto, name: str, scope: _Scope) -> Node:
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        schema = _schema(proto.op_type, scope.opsets.get(domain, 1), domain)
        attributes: dict[str, Attribute] = {}
        if schema is not None:
            attributes |= {
                key: _attribute(spec.default_value)
                for key, spec in schema.attributes.items()
                if spec.default_value.name or spec.default_value.type
            }
        for attribute in proto.attribute:
            if attribute.HasField("g"):
                attributes[attribute.name] = self._body(attribute.g, f"{name}/{attribute.name}", scope)
            elif attribute.graphs:
                prefix = f"{name}/{attribute.name}"
                bodies = [self._body(graph, f"{prefix}/{k}", scope) for k, graph in enumerate(attribute.graphs)]
                attributes[attribute.name] = bodies
            else:
                attributes[attribute.name] = _attribute(attribute)
        return Node(
            name=name,
            op=proto.op_type,
            domain=domain,
            inputs=tuple(scope.names.get(value, value) for value in proto.input),
            outputs=tuple(scope.names.get(value, value) for value in proto.output),
            attributes=attributes,
            since=schema.since_version if schema is not None else scope.opsets.get(domain, 1),
            proto=proto,
            opsets=scope.opsets,
        )

    def _body(self, graph: onnx.GraphProto, prefix: str, scope: _Scope) -> Body:
        own = {name: self._value_name(name, prefix) for name in sorted(_made_names(graph))}
        inner = _Scope({**scope.names, **own}, scope.opsets, scope.depth)
        self._take_initializers(graph, own)
        nodes = tuple(self.nodes(graph.node, inner))
        outputs = tuple(inner.names.get(value.name, value.name) for value in graph.output)
        inputs = tuple(own[value.name] for value in graph.input)
        made = {*inputs, *(name for node in nodes for name in node.outputs)}
        read = dict.fromkeys([*(name for node in nodes for name in node.reads), *outputs])
        return Body(nodes, inputs, outputs, tuple(name for name in read if name not in made))

    def _take_initializers(self, graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
        for tensor in graph.initializer:
            self.constants[names.get(tensor.name, tensor.name)] = tensor
        for sparse in graph.sparse_initializer:
            self.constants[names.get(sparse.values.name, sparse.values.name)] = sparse

    def _value_name(self, name: str, prefix: str) -> str:
        unique = name
        while unique in self.values:
            unique = f"{prefix}/{unique}"
        self.values.add(unique)
        return unique

    def _node_name(self, proto: onnx.NodeProto, index: int) -> str:
        """Return the node's name, made distinct where the file gives none or, as ONNX allows, the same one twice."""
        name = proto.name or f"{proto.op_type}_{index}"
        while name in self.node_names:
            name = f"{name}_{index}"
        self.node_names.add(name)
        return name


def _made_names(graph: onnx.GraphProto) -> set[str]:
    """Return the names of the values that a graph makes or is given."""
    names = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    names |= {sparse.values.name for sparse in graph.sparse_initializer}
    return names | {name for node in graph.node for name in node.output if name}


def _schema(op: str, version: int, domain: str) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(op, version, domain)
    except onnx.defs.SchemaError:
        return None  # an operator outside the standard: its own attributes are all that is known


def _attribute(proto: onnx.AttributeProto) -> Attribute:
    value = onnx.helper.get_attribute_value(proto)
    if proto.type == onnx.AttributeProto.TENSOR:
        return numpy_helper.to_array(value)
    if proto.type == onnx.AttributeProto.STRING:
        return bytes(value).decode()
    if proto.type == onnx.AttributeProto.STRINGS:
        return [item.decode() for item in value]
    if proto.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS):
        return list(value)
    plain: Attribute = value
    return plain


def _value(info: onnx.ValueInfoProto) -> Value:
    kind, proto = "tensor", info.type
    while not proto.HasField("tensor_type"):
        wrapper = proto.WhichOneof("value")
        if wrapper not in ("sequence_type", "optional_type", "map_type"):
            raise ModelError(f"the type of {info.name!r} is {wrapper or 'not declared'}, which cannot be imported")
        kind = kind if kind != "tensor" else wrapper.removesuffix("_type")
        inner = getattr(proto, wrapper)
        proto = inner.value_type if wrapper == "map_type" else inner.elem_type
    tensor = proto.tensor_type
    shape = None
    if tensor.HasField("shape"):
        # Old exporters write 0 or -1 for a dimension that is open.
        shape = tuple(dim.dim_value if dim.dim_value > 0 else (dim.dim_param or None) for dim in tensor.shape.dim)
    return Value(info.name, np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)), shape, kind)
