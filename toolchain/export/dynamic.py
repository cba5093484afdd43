"""The dynamic kernel: an integer matrix product whose input is rounded to 8 bits by the range that it has in each run.

Standard operators, DynamicQuantizeLinear and MatMulInteger, which ONNX Runtime fuses to one. No range is calibrated, so
inputs unlike the calibration data are not clipped; finding the range costs a pass over the input.
"""

import numpy as np
from onnx import TensorProto

from toolchain.export.affine import encode_levels
from toolchain.export.builder import make_node
from toolchain.export.draft import Draft, add_scale, key_of
from toolchain.export.objections import matrix_objection
from toolchain.export.weights import weight_levels, weight_scale, weight_zero
from toolchain.formats import TensorFormat
from toolchain.graph import Graph, Node
from toolchain.graph.weights import output_axis


def objection(graph: Graph, node: Node, weight_format: TensorFormat | None) -> str:
    """Return why a node cannot run as an integer product of a dynamic range; empty when it can."""
    if node.op not in ("Gemm", "MatMul"):
        return f"there is no dynamic int8 {node.op}"
    reason = matrix_objection(graph, node, weight_format)
    if reason or weight_format is None or weight_format.grid is None:
        return reason
    grid = weight_format.grid
    if grid.block_size or grid.axis not in (None, output_axis(node, 1, 2)):
        return "its scales do not run along the output channels alone"
    if len({output_axis(user, 1, 2) for user, _ in graph.consumers()[node.inputs[1]]}) > 1:
        return "nodes that share its weight read it in different directions"
    return ""


def lower_dynamic(draft: Draft, node: Node) -> None:
    """Store the weight as int8 ``[K, N]``, round the input before the product, and scale the integers behind it."""
    weight, axis = node.inputs[1], output_axis(node, 1, 2)
    if weight not in draft.stored:
        _store_weight(draft, weight, axis)
    levels, step, zero = (draft.builder.fresh() for _ in range(3))
    rounding = make_node("DynamicQuantizeLinear", [node.inputs[0]], [levels, step, zero])
    draft.before.setdefault(key_of(node.outputs), []).append(rounding)
    scale = add_scale(draft.builder, weight_scale(draft.module, weight))
    scale = draft.add_before(node, "Mul", [step, scale])
    proto, product = draft.edit(node), draft.builder.fresh()
    proto.CopyFrom(make_node("MatMulInteger", [levels, weight, zero], [product], name=proto.name))
    value = draft.add_after(node, "Cast", [product], {"to": TensorProto.FLOAT})
    bias = node.inputs[2] if len(node.inputs) > 2 else ""
    value = draft.add_after(node, "Mul", [value, scale], output="" if bias else node.outputs[0])
    if bias:
        draft.add_after(node, "Add", [value, bias], output=node.outputs[0])


def _store_weight(draft: Draft, weight: str, axis: int) -> None:
    levels, zero = weight_levels(draft.module, weight), weight_zero(draft.module, weight)
    if zero is not None and zero.ndim:
        zero = zero.reshape((-1, 1) if axis == 0 else (1, -1))
    if axis == 0:
        levels, zero = np.ascontiguousarray(levels.T), None if zero is None else np.ascontiguousarray(zero.T)
    child = draft.builder.fork()
    encoding = encode_levels(child, levels, zero, weight, draft.graph.opset)
    add_scale(child, weight_scale(draft.module, weight))  # here, to be counted with the weight
    draft.adopt(weight, encoding, "dynamic", child)
