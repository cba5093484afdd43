"""Finds the constant tensors that can be pruned and quantized, and says of the others why not."""

from dataclasses import dataclass
from math import prod

import numpy as np

from toolchain.graph.initializers import Initializers
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
        return prod(self.shape)


# Input positions of the weights by operator; MatMul may hold one on either side.
_WEIGHT_INPUTS = {
    ("", "Conv"): (1,),
    ("", "ConvTranspose"): (1,),
    ("", "GRU"): (1, 2),
    ("", "Gemm"): (1,),
    ("", "LSTM"): (1, 2),
    ("", "MatMul"): (0, 1),
    ("", "RNN"): (1, 2),
    ("com.microsoft", "Attention"): (1,),
    ("com.microsoft", "FusedConv"): (1,),
    ("com.microsoft", "FusedGemm"): (1,),
    ("com.microsoft", "FusedMatMul"): (0, 1),
}


def weight_inputs(node: Node) -> tuple[int, ...]:
    """Return at which input positions a node takes weights that can be pruned and quantized."""
    return _WEIGHT_INPUTS.get((node.domain, node.op), ())


def find_weights(graph: Graph) -> tuple[Weight, ...]:
    """Return every constant tensor that a node uses, in order of first use."""
    consumers = graph.consumers()
    order = dict.fromkeys(name for node in graph.walk() for name in node.inputs if name in graph.initializers)
    outputs = {value.name for value in graph.outputs}
    return tuple(_describe(name, graph.initializers, consumers[name], name in outputs) for name in order)


def _describe(name: str, initializers: Initializers, uses: list[tuple[Node, int]], is_output: bool) -> Weight:
    shape = initializers.shape(name)
    reason, axis = _reason(initializers.dtype(name), shape, uses), None
    if not reason:
        axes = {output_axis(node, position, len(shape)) for node, position in uses}
        axis = axes.pop()
        if axes:
            reason = "shared by operators that disagree on which dimension is the output channel"
        elif is_output:
            reason = "it is a graph output"
    return Weight(
        name=name,
        op="+".join(sorted({node.op for node, _ in uses})),
        nodes=tuple(dict.fromkeys(node.name for node, _ in uses)),
        shape=shape,
        axis=None if reason else axis,
        reason=reason,
    )


def _reason(dtype: np.dtype, shape: tuple[int, ...], uses: list[tuple[Node, int]]) -> str:
    for node, position in uses:
        if position not in weight_inputs(node):
            return _role(node, position)
    if dtype != np.float32:
        return f"{dtype} weights are not compressed, only float32"
    if len(shape) < 2:
        return "a vector, not a weight matrix"
    if 0 in shape:
        return "it has no elements"
    return "a single number" if prod(shape) == 1 else ""


def _role(node: Node, position: int) -> str:
    if node.op in ("Conv", "ConvTranspose", "FusedConv", "FusedGemm", "Gemm") and position == 2:
        return "bias"
    if node.op.endswith("Normalization"):
        return "normalisation"
    if node.op in ("Add", "Sub", "Mul", "Div", "Pow"):
        return f"elementwise operand of {node.op}"
    return f"input {position} of {node.op}"


def output_axis(node: Node, position: int, rank: int) -> int:
    """Return the dimension of a weight of ``rank`` dimensions that runs over the node's output channels."""
    if node.op in ("Conv", "FusedConv"):
        return 0
    if node.op in ("ConvTranspose", "GRU", "LSTM", "RNN"):
        return 1  # [C_in, C_out / group, ...]; [directions, gates * hidden, ...]
    if node.op in ("Gemm", "FusedGemm"):
        return 0 if node.attributes.get("transB", 0) else 1
    transposed = bool(node.attributes.get("transB" if position == 1 else "transA", 0))  # of FusedMatMul
    return rank - 1 if (position == 1) != transposed else rank - 2
