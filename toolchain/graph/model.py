"""The immutable ONNX model: typed access to a ``ModelProto`` that stays the truth."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

Attribute = int | float | str | bytes | list[int] | list[float] | list[str] | np.ndarray | onnx.GraphProto

MIN_OPSET = 7


@dataclass(frozen=True, eq=False)
class Node:
    """One operator call.

    Attributes:
        name: the node's name, or ``"OpType_index"`` where the file gives none; unique in the graph.
        op: operator type, such as ``"Conv"``.
        domain: ``""`` for ai.onnx.
        inputs: value names; ``""`` for an optional input that is left out.
        outputs: value names; ``""`` for an output that nobody asked for.
        attributes: by ONNX name, completed from the schema's defaults; tensors as numpy arrays.
        since: the schema version in force, such as 13 for Softmax at opset 17.
    """

    name: str
    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]
    since: int


@dataclass(frozen=True)
class Value:
    """A graph input or output: its name, element type, and shape.

    A dimension is a positive int, or, where it is open, a symbol's name or None.
    """

    name: str
    dtype: np.dtype
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True, eq=False)
class Graph:
    """An ONNX model.

    Always true: nodes are in topological order, every value is made once, every attribute is completed.
    ``proto`` is never written; exporters copy what they change.

    Attributes:
        proto: the model as it was read, external data included.
        nodes: all operator calls but ``Constant``.
        initializers: constant tensors by name, ``Constant`` nodes included; read-only.
        inputs: what the caller must feed; initializers that are listed as inputs are not among them.
        outputs: the model's results.
        opsets: version by domain, ``""`` for ai.onnx.
        path: the file the model came from, or None.
    """

    proto: onnx.ModelProto
    nodes: tuple[Node, ...]
    initializers: Mapping[str, np.ndarray]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    opsets: Mapping[str, int]
    path: Path | None = None

    @property
    def opset(self) -> int:
        """Version of the ai.onnx operator set."""
        return self.opsets[""]

    @property
    def batch_size(self) -> int | None:
        """How many samples the inputs insist on at a time; None where their first dimension is open."""
        leading = [value.shape[0] for value in self.inputs if value.shape]
        return next((size for size in leading if isinstance(size, int)), None)

    def consumers(self) -> dict[str, list[tuple[Node, int]]]:
        """Return, for every value name, the nodes that read it and at which input position."""
        found: dict[str, list[tuple[Node, int]]] = {}
        for node in self.nodes:
            for position, name in enumerate(node.inputs):
                if name:
                    found.setdefault(name, []).append((node, position))
        return found
