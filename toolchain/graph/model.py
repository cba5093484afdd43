"""The immutable ONNX model: typed access to a ``ModelProto`` that stays the truth."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Union

import numpy as np
import onnx

from toolchain.graph.external import Source, is_external
from toolchain.graph.initializers import Initializers

Attribute = Union[int, float, str, bytes, list[int], list[float], list[str], np.ndarray, "Body", list["Body"]]

MIN_OPSET = 7


@dataclass(frozen=True, eq=False)
class Node:
    """One operator call.

    Attributes:
        name: the node's name, or ``"OpType_index"`` where the file gives none; unique in the model.
        op: operator type, such as ``"Conv"``.
        domain: ``""`` for ai.onnx.
        inputs: value names; ``""`` for an optional input that is left out.
        outputs: value names; ``""`` for an output that nobody asked for.
        attributes: by ONNX name, completed from the schema's defaults; tensors as numpy arrays, subgraphs as ``Body``.
        since: the schema version in force, such as 13 for Softmax at opset 17.
        proto: the node as the file has it, but for a node that comes from a function: that one is instantiated.
        opsets: version by domain that the node was written for; a function may differ from the model that calls it.
    """

    name: str
    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]
    since: int
    proto: onnx.NodeProto
    opsets: Mapping[str, int]

    @property
    def bodies(self) -> tuple["Body", ...]:
        """The subgraphs among the attributes."""
        found = [item if isinstance(item, list) else [item] for item in self.attributes.values()]
        return tuple(item for items in found for item in items if isinstance(item, Body))

    @property
    def reads(self) -> tuple[str, ...]:
        """The values that the node reads: its inputs, and what its subgraphs take from around it."""
        return (*filter(None, self.inputs), *(name for body in self.bodies for name in body.captured))


@dataclass(frozen=True, eq=False)
class Body:
    """A graph inside a node: a branch of If, or what Loop and Scan repeat.

    Its values have names that are unique in the model, and its initializers are among those of the ``Graph``.

    Attributes:
        nodes: in topological order.
        inputs: what the node hands in, by position.
        outputs: what the node gets back, by position.
        captured: what is read from around the node, initializers included.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    captured: tuple[str, ...]


@dataclass(frozen=True)
class Value:
    """A graph input or output: its name, element type, and shape.

    A dimension is a positive int, or, where it is open, a symbol's name or None.

    Attributes:
        name: value name.
        dtype: element type; ``object`` for strings.
        shape: dimensions, or None where the file does not say how many there are.
        kind: ``"tensor"``, or what holds such tensors: ``"sequence"``, ``"optional"`` or ``"map"``.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int | str | None, ...] | None
    kind: str = "tensor"


@dataclass(frozen=True, eq=False)
class Graph:
    """An ONNX model.

    Always true: nodes are in topological order, every value is made once, every attribute is completed, calls of the
    model's own functions are replaced by what the functions do. ``proto`` is never written; exporters copy what they
    change.

    Attributes:
        proto: the model as it was read, external data included, but for initializers that are mapped.
        nodes: all operator calls but ``Constant``.
        initializers: constant tensors by name, ``Constant`` nodes and those of subgraphs included.
        inputs: what the caller must feed; initializers that are listed as inputs are not among them.
        outputs: the model's results.
        opsets: version by domain, ``""`` for ai.onnx.
        path: the file the model came from, or None.
        source: what ``proto`` was read from, or None where it was made or changed in memory.
    """

    proto: onnx.ModelProto
    nodes: tuple[Node, ...]
    initializers: Initializers
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    opsets: Mapping[str, int]
    path: Path | None = None
    source: Source | None = None

    @property
    def is_mapped(self) -> bool:
        """Whether initializers were left in their files because the model is larger than a protobuf may be."""
        return any(is_external(tensor) for tensor in self.proto.graph.initializer)

    @property
    def opset(self) -> int:
        """Version of the ai.onnx operator set."""
        return self.opsets[""]

    @property
    def output_shapes(self) -> dict[str, tuple[int | str | None, ...] | None]:
        """The shapes that the model promises, by output."""
        return {value.name: value.shape for value in self.outputs}

    @property
    def takes_sets(self) -> bool:
        """Whether a sample is one whole set of inputs, as the first dimension does not count samples in all of them.

        So it is where an input is a scalar, where first dimensions are fixed and differ or one above 1 stands beside an
        open one, and where the symbol that one input begins with is a later dimension of another: a streaming model's
        state ``[2, batch, 128]``.
        """
        shapes = [value.shape for value in self.inputs if value.shape is not None]
        if () in shapes:
            return True
        fixed = {shape[0] for shape in shapes if isinstance(shape[0], int)}
        symbols = {shape[0] for shape in shapes if isinstance(shape[0], str)}
        is_inner = any(name in shape[1:] for name in symbols for shape in shapes if shape[0] != name)
        is_mixed = bool(fixed - {1}) and not all(isinstance(shape[0], int) for shape in shapes)
        return is_inner or is_mixed or len(fixed) > 1

    @property
    def batch_size(self) -> int | None:
        """How many samples the inputs insist on at a time; None where their first dimension is open."""
        if self.takes_sets:
            return 1
        leading = [value.shape[0] for value in self.inputs if value.shape]
        return next((size for size in leading if isinstance(size, int)), None)

    def walk(self) -> Iterator[Node]:
        """Yield every node, those of subgraphs after the node that holds them."""
        return walk(self.nodes)

    def consumers(self) -> Mapping[str, list[tuple[Node, int]]]:
        """Return, for every value name, the nodes that read it and at which input position."""
        return self._consumers

    @cached_property
    def _consumers(self) -> dict[str, list[tuple[Node, int]]]:
        found: dict[str, list[tuple[Node, int]]] = {}
        for node in self.walk():
            for position, name in enumerate(node.inputs):
                if name:
                    found.setdefault(name, []).append((node, position))
        return found


def walk(nodes: tuple[Node, ...]) -> Iterator[Node]:
    """Yield ``nodes`` and those of their subgraphs."""
    for node in nodes:
        yield node
        for body in node.bodies:
            yield from walk(body.nodes)
