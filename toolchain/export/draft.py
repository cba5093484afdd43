"""The export in progress: what replaces what in the original graph."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx

from toolchain.export.builder import Attributes, Builder, make_node
from toolchain.export.encodings import Content, encode_extra
from toolchain.graph import Graph, Node
from toolchain.module import OnnxModule


@dataclass(frozen=True)
class StoredTensor:
    """How one tensor lies in the file.

    Attributes:
        encoding: ``"dense"``, ``"sparse_initializer"`` or ``"packed"``.
        kernel: a key of ``KERNELS``.
        bytes: serialized bytes of its constants and decode nodes; constants shared with an earlier tensor excluded.
    """

    encoding: str
    kernel: str
    bytes: int


@dataclass(frozen=True, eq=False)
class Inner:
    """Where the channels of a rounded value are that only nodes which gather read.

    Attributes:
        levels: name of a value that holds those that are read.
        places: int64 ``[channels]``: the channel of ``levels`` that each one is; -1 where nobody reads it.
    """

    levels: str
    places: np.ndarray


@dataclass(eq=False)
class Draft:
    """Collects changes to a graph; the graph itself is never written.

    Nodes are known by their ``key_of``: names of nodes are not in every file.

    Attributes:
        module: the source of the weights and formats.
        graph: the graph that is written into, at the opset of the file.
        builder: nodes and constants that go before all original nodes.
        kernels: that every node runs by, by its key.
        replaced: constants of the original graph that are no longer stored under their own entry.
        values: new values of constants that stay dense, by name.
        before: nodes that an original node needs before it, by the node's key.
        edited: what stands in the place of an original node, by the node's key.
        after: nodes that follow an original node, by the node's key.
        stored: by tensor name, for the report.
        pending: the constant that a pending value is part of, by the value's name.
        merged: the node that does a node's work beside its own, by the key of the one that is gone.
        levels: name of the 8-bit levels of a rounded value, by its name.
        integers: rounded values whose levels their makers make, without a float value before.
        inner: rounded values that exist in another order of channels alone, by name.
    """

    module: OnnxModule
    graph: Graph
    builder: Builder
    kernels: Mapping[str, str] = field(default_factory=dict)
    replaced: set[str] = field(default_factory=set)
    values: dict[str, np.ndarray] = field(default_factory=dict)
    before: dict[str, list[onnx.NodeProto]] = field(default_factory=dict)
    edited: dict[str, onnx.NodeProto] = field(default_factory=dict)
    after: dict[str, list[onnx.NodeProto]] = field(default_factory=dict)
    stored: dict[str, StoredTensor] = field(default_factory=dict)
    pending: dict[str, str] = field(default_factory=dict)
    merged: dict[str, Node] = field(default_factory=dict)
    levels: dict[str, str] = field(default_factory=dict)
    integers: set[str] = field(default_factory=set)
    inner: dict[str, Inner] = field(default_factory=dict)
    _protos: dict[str, onnx.NodeProto] = field(init=False)

    def __post_init__(self) -> None:
        """Index the graph's nodes."""
        self._protos = {key_of(node.output): node for node in self.graph.proto.graph.node}

    def adopt(self, name: str, encoding: str, kernel: str, child: Builder) -> None:
        """Take over what a fork of the builder stores in place of constant ``name``."""
        settled = child.bytes - sum(item.bytes for item in child.pending.values())
        self.stored[name] = StoredTensor(encoding, kernel, settled)
        self.pending |= dict.fromkeys(child.pending, name)
        self.replaced.add(name)
        self.builder.absorb(child)

    def settle(self, taken: Mapping[str, float]) -> None:
        """Count what pending values took in the end, by their names, as bytes of their constants."""
        for value, name in self.pending.items():
            entry = self.stored[name]
            self.stored[name] = replace(entry, bytes=entry.bytes + round(taken[value]))

    def levels_of(self, value: str) -> str:
        """Return the name that the 8-bit levels of a value have or will have."""
        if value not in self.levels:
            self.levels[value] = self.builder.fresh()
        return self.levels[value]

    def edit(self, node: Node) -> onnx.NodeProto:
        """Return the node as it will be written, to be changed in place."""
        key = key_of(node.outputs)
        if key not in self.edited:
            self.edited[key] = onnx.NodeProto()
            self.edited[key].CopyFrom(self._protos[key])
        return self.edited[key]

    def add_before(self, node: Node, op: str, inputs: Sequence[str], attributes: Attributes | None = None) -> str:
        """Add a node before an original one, behind those that are there already; return its output."""
        made = make_node(op, inputs, [self.builder.fresh()], attributes)
        self.before.setdefault(key_of(node.outputs), []).append(made)
        return made.output[0]

    def add_after(
        self, node: Node, op: str, inputs: Sequence[str], attributes: Attributes | None = None, output: str = ""
    ) -> str:
        """Add a node after an original one, behind those that are there already; return its output."""
        made = make_node(op, inputs, [output or self.builder.fresh()], attributes)
        self.after.setdefault(key_of(node.outputs), []).append(made)
        return made.output[0]

    def merge(self, node: Node, gone: Node) -> onnx.NodeProto:
        """Let ``node`` make the output of ``gone``, its only reader, which is not written; return it to be changed."""
        written = self.edit(node)
        written.output[0] = gone.outputs[0]
        self.merged[key_of(gone.outputs)] = node
        consumers = self.graph.consumers()
        self.replaced |= {name for name in filter(None, gone.inputs[1:]) if len(consumers[name]) == 1}
        return written

    def around(self, node: Node) -> list[onnx.NodeProto]:
        """Return everything that stands in the place of an original node, to be changed in place."""
        key = key_of(node.outputs)
        return [*self.before.get(key, ()), self.edit(node), *self.after.get(key, ())]


def key_of(outputs: Iterable[str]) -> str:
    """Return what a node is known by: the first of its outputs that has a name, as an LSTM may leave out its first."""
    return next(filter(None, outputs), "")


def add_scale(builder: Builder, scale: np.ndarray) -> str:
    """Add a float32 scale by the fewest bytes, the same one for every caller that asks for it."""
    return builder.once(scale, lambda name: encode_extra(builder, Content(scale), name))
