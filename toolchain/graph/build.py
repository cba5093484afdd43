"""Builds a ``Graph`` from a ``ModelProto``."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from toolchain.errors import ModelError
from toolchain.graph.constants import Constant, check_constant, constant_of
from toolchain.graph.external import Source
from toolchain.graph.functions import FunctionKey, check_calls, function_key, instantiate, is_constant
from toolchain.graph.initializers import Initializers
from toolchain.graph.model import MIN_OPSET, Attribute, Body, Graph, Node, Value
from toolchain.graph.opsets import check_opset, find_schema, read_opsets


def build_graph(proto: onnx.ModelProto, path: Path | None = None, source: Source | None = None) -> Graph:
    """Return the typed view of ``proto``.

    Args:
        proto: the model, kept and not changed.
        path: the file that the model came from.
        source: what ``proto`` was read from, for tensors that lie in other files and for saving.

    Raises:
        ModelError: the opset is older than 7, functions call each other in a circle or without measure, or a value has
            a type that is neither tensor, sequence, optional nor map.
    """
    opsets = {"": MIN_OPSET, **read_opsets(proto.opset_import)}  # a model of other domains alone names no ai.onnx
    check_opset(proto, opsets[""])
    builder = _builder(proto)
    nodes = builder.top_level(proto.graph, opsets)
    return Graph(
        proto=proto,
        nodes=tuple(nodes),
        initializers=Initializers(builder.constants, source.data if source else None),
        inputs=tuple(_value(info) for info in proto.graph.input if info.name not in builder.constants),
        outputs=tuple(_value(info) for info in proto.graph.output),
        opsets=opsets,
        path=path,
        source=source,
    )


def find_constants(proto: onnx.ModelProto) -> dict[str, Constant]:
    """Return the parts of ``proto`` that hold its constants, by the names that ``build_graph`` gives them."""
    builder = _builder(proto)
    builder.top_level(proto.graph, read_opsets(proto.opset_import))
    return builder.constants


def build_nodes(
    protos: Iterable[onnx.NodeProto], opsets: Mapping[str, int]
) -> tuple[tuple[Node, ...], dict[str, Constant]]:
    """Return nodes that stand outside a model, such as those of an operator's function body, and their constants.

    Names are kept: the caller sees to it that they are unique.
    """
    builder, listed = _Builder({}), list(protos)
    return tuple(builder.nodes(listed, listed, _Scope({}, opsets))), builder.constants


@dataclass(frozen=True)
class _Scope:
    """What names mean at one place of the model, and which versions are in force there.

    Attributes:
        names: in the typed graph, where they differ.
        opsets: version by domain.
        given: what the function's call gives for the attributes that the function refers to.
    """

    names: Mapping[str, str]
    opsets: Mapping[str, int]
    given: Mapping[str, onnx.AttributeProto] = field(default_factory=dict)


def _builder(proto: onnx.ModelProto) -> "_Builder":
    functions = {function_key(function): function for function in proto.functions}
    check_calls(proto.graph.node, functions)
    return _Builder(functions)


@dataclass
class _Builder:
    """Gives every value and node of a model, wherever it is nested, a name of its own.

    Values of the outermost graph keep theirs, as they are what users see. Subgraphs that use a name for the second
    time, as the two branches of If may, get theirs prefixed by the name of the node that holds them.

    Functions are instantiated, that is copied, for every call. Beside each node goes its origin, the node of the model
    that it is a copy of or is itself: constants are taken from there, so that each is a part of the model, and is one
    constant however many calls use it.
    """

    functions: Mapping[FunctionKey, onnx.FunctionProto]
    constants: dict[str, Constant] = field(default_factory=dict)
    taken: dict[int, tuple[str, Constant]] = field(default_factory=dict)  # by identity, which lives as long as they do
    values: set[str] = field(default_factory=set)
    node_names: set[str] = field(default_factory=set)
    repeats: dict[str, int] = field(default_factory=dict)  # how often a node's name was given again

    def top_level(self, graph: onnx.GraphProto, opsets: Mapping[str, int]) -> list[Node]:
        self.values |= _made_names(graph)
        for name, constant in _initializers(graph, graph):
            self._take(name, constant)
        return self.nodes(graph.node, graph.node, _Scope({}, opsets))

    def nodes(self, protos: Iterable[onnx.NodeProto], origins: Iterable[onnx.NodeProto], scope: _Scope) -> list[Node]:
        """Return nodes in order: constants are put aside, functions replaced by what they do."""
        found: list[Node] = []
        for index, (proto, origin) in enumerate(zip(protos, origins, strict=False)):
            if is_constant(proto):
                name = proto.output[0]
                self._take(scope.names.get(name, name), _constant(origin, scope))
                continue
            name = self._node_name(proto, index)
            function = self.functions.get(function_key(proto))
            if function is None:
                found.append(self._node(proto, origin, name, scope))
            else:
                call = onnx.NodeProto()
                call.CopyFrom(proto)
                call.input[:] = [scope.names.get(value, value) for value in proto.input]
                call.output[:] = [scope.names.get(value, value) for value in proto.output]
                given = {attribute.name: attribute for attribute in function.attribute_proto} | _given(origin, scope)
                opsets = {**scope.opsets, **read_opsets(function.opset_import)}
                found += self._call(function, call, name, _Scope({}, opsets, given))
        return found

    def _call(self, function: onnx.FunctionProto, call: onnx.NodeProto, name: str, inside: _Scope) -> list[Node]:
        # What an instance has beyond its function are Identity nodes, which hold no constants.
        shared_prefix = ".".join(filter(None, function_key(function)))
        nodes = instantiate(function, call, name, shared_prefix, self.values)
        return self.nodes(nodes, chain(function.node, repeat(onnx.NodeProto())), inside)

    def _node(self, proto: onnx.NodeProto, origin: onnx.NodeProto, name: str, scope: _Scope) -> Node:
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        schema = find_schema(proto.op_type, scope.opsets.get(domain, 1), domain)
        attributes: dict[str, Attribute] = {}
        if schema is not None:
            attributes |= {
                key: _attribute(spec.default_value)
                for key, spec in schema.attributes.items()
                if spec.default_value.name or spec.default_value.type
            }
        given = _given(origin, scope)
        for attribute in proto.attribute:
            prefix = f"{name}/{attribute.name}"
            if attribute.HasField("g"):
                attributes[attribute.name] = self._body(attribute.g, given[attribute.name].g, prefix, scope)
            elif attribute.graphs:
                pairs = zip(attribute.graphs, given[attribute.name].graphs, strict=True)
                bodies = [self._body(graph, own, f"{prefix}/{k}", scope) for k, (graph, own) in enumerate(pairs)]
                attributes[attribute.name] = bodies
            else:
                attributes[attribute.name] = _read_attribute(attribute, f"{proto.op_type} node {name!r}")
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

    def _body(self, graph: onnx.GraphProto, origin: onnx.GraphProto, prefix: str, scope: _Scope) -> Body:
        initializers = list(_initializers(graph, origin))
        nested = zip(graph.node, origin.node, strict=True)
        constants = [(node.output[0], _constant(own, scope)) for node, own in nested if is_constant(node)]
        held = [*initializers, *constants]
        own = {name: self.taken[id(constant)][0] for name, constant in held if id(constant) in self.taken}
        own |= {name: self._value_name(name, prefix) for name in sorted(_made_names(graph) - own.keys())}
        inner = replace(scope, names={**scope.names, **own})
        for name, constant in initializers:
            self._take(own[name], constant)
        nodes = tuple(self.nodes(graph.node, origin.node, inner))
        outputs = tuple(inner.names.get(value.name, value.name) for value in graph.output)
        inputs = tuple(own[value.name] for value in graph.input)
        made = {*inputs, *(name for node in nodes for name in node.outputs)}
        read = dict.fromkeys([*(name for node in nodes for name in node.reads), *outputs])
        return Body(nodes, inputs, outputs, tuple(name for name in read if name not in made))

    def _take(self, name: str, constant: Constant) -> None:
        self.constants[name] = constant
        self.taken[id(constant)] = (name, constant)

    def _value_name(self, name: str, prefix: str) -> str:
        unique = name
        while unique in self.values or unique in self.constants:
            unique = f"{prefix}/{unique}"
        self.values.add(unique)
        return unique

    def _node_name(self, proto: onnx.NodeProto, index: int) -> str:
        """Return the node's name, made distinct where the file gives none or, as ONNX allows, the same one twice."""
        name = unique = proto.name or f"{proto.op_type}_{index}"
        while unique in self.node_names:
            self.repeats[name] = self.repeats.get(name, 0) + 1
            unique = f"{name}_{self.repeats[name]}"
        self.node_names.add(unique)
        return unique


def _given(origin: onnx.NodeProto, scope: _Scope) -> dict[str, onnx.AttributeProto]:
    """Return the parts of the model that give a node's attributes: its own, or the call's where it refers to those."""
    return {
        attribute.name: scope.given[attribute.ref_attr_name] if attribute.ref_attr_name else attribute
        for attribute in origin.attribute
        if not attribute.ref_attr_name or attribute.ref_attr_name in scope.given
    }


def _constant(origin: onnx.NodeProto, scope: _Scope) -> Constant:
    given = list(_given(origin, scope).values())
    if not given:
        raise ModelError(f"Constant node {origin.name or origin.output[0]!r} has no value")
    return constant_of(given[0])


def _initializers(graph: onnx.GraphProto, origin: onnx.GraphProto) -> Iterator[tuple[str, Constant]]:
    """Yield the initializers of ``origin`` by the names that they have in its copy ``graph``."""
    for tensor, own in zip(graph.initializer, origin.initializer, strict=True):
        yield tensor.name, own
    for sparse, own_sparse in zip(graph.sparse_initializer, origin.sparse_initializer, strict=True):
        yield sparse.values.name, own_sparse


def _made_names(graph: onnx.GraphProto) -> set[str]:
    """Return the names of the values that a graph makes or is given."""
    names = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    names |= {sparse.values.name for sparse in graph.sparse_initializer}
    return names | {name for node in graph.node for name in node.output if name}


def _read_attribute(proto: onnx.AttributeProto, where: str) -> Attribute:
    if proto.HasField("t"):
        check_constant(f"{proto.name} of {where}", proto.t)
    try:
        return _attribute(proto)
    except (TypeError, ValueError) as error:
        raise ModelError(f"attribute {proto.name!r} of {where} cannot be read: {error}") from error


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
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except KeyError:
        raise ModelError(f"{info.name!r} has the unknown element type {tensor.elem_type}") from None
    return Value(info.name, dtype, shape, kind)
