"""Why a node cannot run by a kernel that stores its weight anew, as far as those kernels agree."""

import numpy as np

from toolchain.export.weights import fits_int8
from toolchain.formats import TensorFormat
from toolchain.graph import Graph, Node
from toolchain.graph.weights import output_axis


def common_objection(graph: Graph, node: Node, weight_format: TensorFormat | None) -> str:
    """Return why a Conv, Gemm or MatMul cannot run with an integer weight; empty when it can."""
    if weight_format is None or weight_format.grid is None:
        return "its weight is on no grid"
    if not fits_int8(weight_format.grid):
        return "its levels less their zero points need more than 8 bits"
    return operand_objection(graph, node)


def matrix_objection(graph: Graph, node: Node, weight_format: TensorFormat | None) -> str:
    """Return why a Gemm or MatMul cannot run with an integer matrix; empty when it can."""
    reason = common_objection(graph, node, weight_format)
    dimensions = 2 if reason else len(graph.initializers.shape(node.inputs[1]))
    return reason or ("" if dimensions == 2 else f"its weight has {dimensions} dimensions, not 2")


def operand_objection(graph: Graph, node: Node) -> str:
    """Return why a Conv, Gemm or MatMul is not just input times constant weight plus constant bias; empty if it is."""
    if node.inputs[0] in graph.initializers or node.inputs[1] not in graph.initializers:
        return "its second input is not the weight"
    plain = {"alpha": 1.0, "beta": 1.0, "transA": 0}
    if node.op == "Gemm" and any(node.attributes[key] != value for key, value in plain.items()):
        return "alpha, beta or transA are set"
    if len(node.inputs) < 3 or not node.inputs[2]:
        return ""
    weight, bias = graph.initializers[node.inputs[1]], graph.initializers.get(node.inputs[2])
    channels = weight.shape[output_axis(node, 1, weight.ndim)]
    if bias is None or bias.shape != (channels,) or bias.dtype != np.float32:
        return "its bias is not a constant float vector with one value per output channel"
    return ""
