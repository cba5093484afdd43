"""Instantiates ONNX functions: what a call stands for, as ordinary nodes.

Source: ONNX IR specification, "Functions".
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import onnx
from onnx import helper

from toolchain.errors import ModelError

FunctionKey = tuple[str, str, str]

# Functions that each call the next one twice make any number of nodes out of a few bytes.
MAX_CALLED_NODES = 2**17
MAX_CALL_DEPTH = 64


def function_key(proto: onnx.NodeProto | onnx.FunctionProto) -> FunctionKey:
    """Return what a call and the function that it means have in common: domain, name, overload."""
    name = proto.op_type if isinstance(proto, onnx.NodeProto) else proto.name
    return "" if proto.domain == "ai.onnx" else proto.domain, name, proto.overload


def is_constant(node: onnx.NodeProto) -> bool:
    """Return whether a node is a ``Constant`` of ai.onnx."""
    return node.op_type == "Constant" and node.domain in ("", "ai.onnx")


def check_calls(nodes: Iterable[onnx.NodeProto], functions: Mapping[FunctionKey, onnx.FunctionProto]) -> None:
    """Check, before any call is replaced by what it does, that this comes to an end and does not fill the memory.

    Raises:
        ModelError: a function calls itself, directly or through others, or calls are nested too deep or are too many.
    """
    calls = _Calls(functions)
    total = 0
    for node in _walk(nodes) if functions else ():
        total += calls.size(function_key(node), ())
        if total > MAX_CALLED_NODES:
            raise ModelError(
                f"the call of function {node.op_type!r} that makes {list(node.output)} stands for more nodes, with the "
                f"calls before it {total:,}, than the {MAX_CALLED_NODES:,} that fit"
            )


@dataclass(frozen=True)
class _Calls:
    """Counts what calls stand for; every function is looked at once."""

    functions: Mapping[FunctionKey, onnx.FunctionProto]
    sizes: dict[FunctionKey, int] = field(default_factory=dict)
    heights: dict[FunctionKey, int] = field(default_factory=dict)

    def size(self, key: FunctionKey, callers: tuple[FunctionKey, ...]) -> int:
        """Return how many nodes a call of ``key`` stands for, 0 where it is an operator."""
        if key not in self.functions:
            return 0
        if key in callers or len(callers) + self.heights.get(key, 1) > MAX_CALL_DEPTH:
            names = " -> ".join(caller[1] for caller in (*callers[-4:], key))
            how = "itself, directly or through others" if key in callers else f"others, {MAX_CALL_DEPTH} deep"
            raise ModelError(f"function {key[1]!r} calls {how}: {names}")
        if key not in self.sizes:
            inner = [function_key(node) for node in _walk(self.functions[key].node)]
            self.sizes[key] = len(inner) + sum(self.size(name, (*callers, key)) for name in inner)
            self.heights[key] = 1 + max((self.heights.get(name, 0) for name in inner), default=0)
        return self.sizes[key]


def _walk(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Yield nodes and those of their subgraphs."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _walk(graph.node)


def instantiate(
    function: onnx.FunctionProto, call: onnx.NodeProto, prefix: str, shared_prefix: str, taken: set[str]
) -> list[onnx.NodeProto]:
    """Return the nodes that ``call`` stands for, over the call's own input and output names.

    Nodes and values inside get the name ``prefix/name``, but for constants, unless the call gives them: they get
    the name ``shared_prefix/name``. Where such a name is taken, what is before the stroke is made longer.

    Args:
        function: what is called.
        call: the node.
        prefix: unique among the calls.
        shared_prefix: the same for calls that share their constants.
        taken: names of other values; those that are made inside are added, but for those of subgraphs.

    Raises:
        ModelError: the call has more inputs or outputs than the function, or a constant inside has no value.
    """
    if any(is_constant(node) and not (node.attribute and node.output) for node in function.node):
        raise ModelError(f"function {function.name!r} has a Constant node without a value or without an output")
    if len(call.input) > len(function.input) or len(call.output) > len(function.output):
        raise ModelError(f"{call.op_type} node {prefix!r} has more inputs or outputs than the function that it calls")
    shared = [node.output[0] for node in function.node if is_constant(node) and not node.attribute[0].ref_attr_name]
    shared_prefix = _free(shared_prefix, shared, taken)
    names = {name: f"{shared_prefix}/{name}" for name in shared}
    made = _made_inside(function.node) - names.keys()
    prefix = _free(prefix, made, taken)
    taken |= {f"{prefix}/{name}" for node in function.node for name in node.output if name in made}
    wanted = {inner: outer for inner, outer in zip(function.output, call.output, strict=False) if outer}
    names |= {inner: outer for inner, outer in wanted.items() if inner not in names}
    names |= dict.fromkeys(function.input, "") | dict(zip(function.input, call.input, strict=False))
    attributes = {item.name: item for item in (*function.attribute_proto, *call.attribute)}
    instance = _Instance(names, prefix, attributes)
    nodes = [instance.node(node) for node in function.node]
    nodes += [  # constants and inputs that are handed through as outputs
        helper.make_node("Identity", [names[inner]], [outer], f"{prefix}/{inner}")
        for inner, outer in wanted.items()
        if names[inner] != outer
    ]
    return nodes


def _made_inside(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """Return the names of the values that nodes and their subgraphs make, subgraphs' inputs included."""
    found: set[str] = set()
    for node in nodes:
        found.update(filter(None, node.output))
        for attribute in node.attribute:
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                found.update(value.name for value in graph.input)
                tensors = (*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer))
                found.update(tensor.name for tensor in tensors)
                found |= _made_inside(graph.node)
    return found


def _free(prefix: str, names: Iterable[str], taken: Container[str]) -> str:
    """Return ``prefix``, made longer until none of the names behind it is taken."""
    while any(f"{prefix}/{name}" in taken for name in names):
        prefix += "_"
    return prefix


@dataclass(frozen=True)
class _Instance:
    """Copies protos with the names and attributes of one call."""

    names: Mapping[str, str]
    prefix: str
    attributes: Mapping[str, onnx.AttributeProto]

    def name(self, name: str) -> str:
        return self.names.get(name, f"{self.prefix}/{name}") if name else ""

    def node(self, source: onnx.NodeProto) -> onnx.NodeProto:
        node = onnx.NodeProto()
        node.CopyFrom(source)
        node.name = f"{self.prefix}/{source.name or next(iter(source.output), source.op_type)}"
        node.input[:] = [self.name(name) for name in source.input]
        node.output[:] = [self.name(name) for name in source.output]
        del node.attribute[:]
        node.attribute.extend(item for attribute in source.attribute for item in self.attribute(attribute))
        return node

    def attribute(self, source: onnx.AttributeProto) -> list[onnx.AttributeProto]:
        """Return the attribute, that of the call where it refers to one, nothing where the call does not give it."""
        attribute = onnx.AttributeProto()
        if source.ref_attr_name:
            if source.ref_attr_name not in self.attributes:
                return []
            attribute.CopyFrom(self.attributes[source.ref_attr_name])
            attribute.name = source.name
            return [attribute]
        attribute.CopyFrom(source)
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            self.graph(graph)
        return [attribute]

    def graph(self, graph: onnx.GraphProto) -> None:
        """Rename everything in a subgraph, in place."""
        for value in (*graph.input, *graph.output, *graph.value_info):
            value.name = self.name(value.name)
        for tensor in (*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer)):
            tensor.name = self.name(tensor.name)
        nodes = [self.node(node) for node in graph.node]
        del graph.node[:]
        graph.node.extend(nodes)
