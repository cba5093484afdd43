"""Collects the small constants and nodes that rebuild tensors when a session loads."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

Attributes = Mapping[str, int | str | list[int] | onnx.TensorProto]

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class Builder:
    """Nodes and initializers to be added to a graph, under short names that collide with nothing.

    Short names and unnamed nodes matter: the decode nodes of a small network weigh as much as its weights.

    Attributes:
        nodes: in topological order.
        initializers: dense constants.
        sparse: sparse constants.
        function_opset: the ai.onnx version of model-local functions; 0 where none may be added.
        functions: model-local functions by name. Written once for all tensors, they do not count in ``bytes``.
    """

    def __init__(self, prefix: str, function_opset: int = 0) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.sparse: list[onnx.SparseTensorProto] = []
        self.function_opset = function_opset
        self.functions: dict[str, onnx.FunctionProto] = {}
        self._prefix = prefix
        self._count = 0
        self._shared: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def fork(self) -> "Builder":
        """Return an empty builder that continues this one's names and may use its shared constants."""
        child = Builder(self._prefix, self.function_opset)
        child._count = self._count
        child._shared = dict(self._shared)
        return child

    def absorb(self, child: "Builder") -> None:
        """Take over everything that a fork of this builder has collected."""
        self.nodes += child.nodes
        self.initializers += child.initializers
        self.sparse += child.sparse
        self.functions |= child.functions
        self._count = child._count
        self._shared = child._shared

    @property
    def bytes(self) -> int:
        """Serialized bytes that the collected messages add to a graph."""
        sizes = [message.ByteSize() for message in (*self.nodes, *self.initializers, *self.sparse)]
        return sum(1 + max(1, (size.bit_length() + 6) // 7) + size for size in sizes)

    def fresh(self) -> str:
        """Return a value name that is not used yet."""
        number, digits = self._count, ""
        while True:
            number, digit = divmod(number, len(_DIGITS))
            digits = _DIGITS[digit] + digits
            if not number:
                break
        self._count += 1
        return self._prefix + digits

    def tensor(self, array: np.ndarray, name: str = "") -> str:
        """Add an initializer and return its name."""
        name = name or self.fresh()
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def constant(self, array: np.ndarray) -> str:
        """Return the name of an initializer with these values, the same one for every caller that asks for them."""
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._shared:
            self._shared[key] = self.tensor(array)
        return self._shared[key]

    def ints(self, values: Sequence[int]) -> str:
        """Return the name of a shared int64 vector, as shapes and slice ends are written."""
        return self.constant(np.array(values, np.int64))

    def node(
        self, op: str, inputs: Sequence[str], attributes: Attributes | None = None, output: str = "", domain: str = ""
    ) -> str:
        """Add a node with one output and return that output's name."""
        output = output or self.fresh()
        self.nodes.append(make_node(op, inputs, [output], attributes, domain=domain))
        return output

    def cast(self, value: str, to: int, output: str = "") -> str:
        """Add a Cast to element type ``to``."""
        return self.node("Cast", [value], {"to": to}, output)


def make_node(
    op: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    attributes: Attributes | None = None,
    name: str = "",
    domain: str = "",
) -> onnx.NodeProto:
    """Return a node without the fields that are not needed."""
    node = onnx.NodeProto(op_type=op, input=inputs, output=outputs)
    if name:
        node.name = name
    if domain:
        node.domain = domain
    node.attribute.extend(helper.make_attribute(key, value) for key, value in (attributes or {}).items())
    return node


def free_prefix(names: set[str]) -> str:
    """Return the shortest ``_``, ``_a``, ``_aa``, ... with which none of ``names`` begins."""
    prefix = "_"
    while any(name.startswith(prefix) for name in names):
        prefix += "a"
    return prefix
