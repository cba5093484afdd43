"""Collects the small constants and nodes that rebuild tensors when a session loads."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from toolchain.export.encodings.pool import Pooled  # which writes by a builder

Attributes = Mapping[str, int | str | list[int] | onnx.TensorProto]

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


# Integers of up to 64 bits that protobuf can also store by the bytes that their values need, and the field of each.
_VARINTS: dict[int, str] = {TensorProto.INT64: "int64_data", TensorProto.INT32: "int32_data"}
_FEW = 64


class Builder:
    """Nodes and initializers to be added to a graph, under short names that collide with nothing.

    Short names and unnamed nodes matter: the decode nodes of a small network weigh as much as its weights.

    Attributes:
        nodes: in topological order.
        initializers: dense constants.
        sparse: sparse constants.
        pools: whether small tensors may be left pending.
        packs: whether tensors are stored by the fewest bytes; else as they are, for a file that is only timed.
        without: encodings that are not to be used, by their names.
        pending: tensors that are encoded when all are known, by the name that they will have.
    """

    def __init__(
        self, prefix: str, pools: bool = False, packs: bool = True, without: frozenset[str] = frozenset()
    ) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.sparse: list[onnx.SparseTensorProto] = []
        self.pools = pools
        self.packs = packs
        self.without = without
        self.pending: dict[str, Pooled] = {}
        self._prefix = prefix
        self._count = 0
        self._shared: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def fork(self) -> "Builder":
        """Return an empty builder that continues this one's names and may use its shared constants."""
        child = Builder(self._prefix, self.pools, self.packs, self.without)
        child._count = self._count
        child._shared = dict(self._shared)
        return child

    def absorb(self, child: "Builder") -> None:
        """Take over everything that a fork of this builder has collected."""
        self.nodes += child.nodes
        self.initializers += child.initializers
        self.sparse += child.sparse
        self.pending |= child.pending
        self._count = child._count
        self._shared = child._shared

    @property
    def bytes(self) -> int:
        """Serialized bytes that the collected messages add to a graph, and pending tensors about."""
        sizes = [message.ByteSize() for message in (*self.nodes, *self.initializers, *self.sparse)]
        later = sum(item.bytes for item in self.pending.values())
        return later + sum(1 + max(1, (size.bit_length() + 6) // 7) + size for size in sizes)

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
        self.initializers.append(make_tensor(array, name))
        return name

    def constant(self, array: np.ndarray) -> str:
        """Return the name of an initializer with these values, the same one for every caller that asks for them."""
        return self.once(array, lambda name: self.tensor(array, name))

    def once(self, array: np.ndarray, add: Callable[[str], object]) -> str:
        """Return the name of these values, which ``add`` has to add under it unless they are there already."""
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._shared:
            self._shared[key] = self.fresh()
            add(self._shared[key])
        return self._shared[key]

    def ints(self, values: Sequence[int]) -> str:
        """Return the name of a shared int64 vector, as shapes and slice ends are written."""
        return self.constant(np.array(values, np.int64))

    def node(self, op: str, inputs: Sequence[str], attributes: Attributes | None = None, output: str = "") -> str:
        """Add a node with one output and return that output's name."""
        output = output or self.fresh()
        self.nodes.append(make_node(op, inputs, [output], attributes))
        return output

    def cast(self, value: str, to: int, output: str = "") -> str:
        """Add a Cast to element type ``to``."""
        return self.node("Cast", [value], {"to": to}, output)


def make_tensor(array: np.ndarray, name: str) -> onnx.TensorProto:
    """Return an initializer: a few integers by the bytes that their values need, where those are fewer."""
    plain = numpy_helper.from_array(array, name)
    if plain.data_type not in _VARINTS or array.size > _FEW:
        return plain
    short = onnx.TensorProto(data_type=plain.data_type, dims=plain.dims, name=name)
    getattr(short, _VARINTS[plain.data_type]).extend(array.reshape(-1).tolist())
    return short if short.ByteSize() < plain.ByteSize() else plain


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
