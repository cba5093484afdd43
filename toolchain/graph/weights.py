"""Finds the constant tensors that can be pruned and quantized, and says of the others why not."""

from dataclasses import dataclass

import numpy as np

from toolchain.graph.model import Graph, Node


@dataclass(frozen=True)
class Weight:
    """One constant tensor and its use.

    Attributes:
        name: initializer name.
        op: type of the operators that use it, ``"+"``-joined when they differ.
        nodes: names of the nodes that use it.
        shape: its dimensions.
        axis: the output-channel dimension; None where there is none.
        reason: why it cannot be pruned and quantized; empty when it can.
    """

    name: str
    op: str
    nodes: tuple[str, ...]
    shape: tuple[int, ...]
    axis: int | None
    reason: str

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))


# Input position of the weight by operator; MatMul may hold it on either side.
WEIGHT_INPUTS = {"Conv": (1,), "ConvTranspose": (1,), "Gemm": (1,), "MatMul": (0, 1)}


def find_weights(graph: Graph) -> tuple[Weight, ...]:
    """Return every constant tensor that a node uses, in order of first use."""
    consumers = graph.consumers()
    order = dict.fromkeys(name for node in graph.nodes for name in node.inputs if name in graph.initializers)
    outputs = {value.name for value in graph.outputs}
    return tuple(_describe(name, graph.initializers[name], consumers[name], name in outputs) for name in order)


def _describe(name: str, array: np.ndarray, uses: list[tuple[Node, int]], is_output: bool) -> Weight:
    reason, axis = _reason(array, uses), None
    if not reason:
        axes = {output_axis(node, position, array.ndim) for node, position in uses}
        axis = axes.pop()
        if axes:
            reason = "shared by operators that disagree on which dimension is the output channel"
        elif is_output:
            reason = "it is a graph output"
    return Weight(
        name=name,
        op="+".join(sorted({node.op for node, _ in uses})),
        nodes=tuple(dict.fromkeys(node.name for node, _ in uses)),
        shape=tuple(array.shape),
        axis=None if reason else axis,
        reason=reason,
    )


def _reason(array: np.ndarray, uses: list[tuple[Node, int]]) -> str:
    for node, position in uses:
        if node.domain or position not in WEIGHT_INPUTS.get(node.op, ()):
            return _role(node, position)
    if array.dtype != np.float32:
        return f"{array.dtype} weights are not trained, only float32"
    if array.ndim < 2:
        return "a vector, not a weight matrix"
    if array.size == 0:
        return "it has no elements"
    if array.size == 1:
        return "a single number"
    return ""


def _role(node: Node, position: int) -> str:
    if node.op in ("Conv", "ConvTranspose", "Gemm") and position == 2:
        return "bias"
    if node.op.endswith("Normalization"):
        return "normalisation"
    if node.op in ("Add", "Sub", "Mul", "Div", "Pow"):
        return f"elementwise operand of {node.op}"
    return f"input {position} of {node.op}"


def output_axis(node: Node, position: int, rank: int) -> int:
    """Return the dimension of a weight of ``rank`` dimensions that runs over the node's output channels."""
    if node.op == "Conv":
        return 0
    if node.op == "ConvTranspose":
        return 1  # [C_in, C_out / group, ...]
    if node.op == "Gemm":
        return 0 if node.attributes.get("transB", 0) else 1
    return rank - 1 if position == 1 else rank - 2
