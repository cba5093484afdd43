"""The int8 kernel: QuantizeLinear and DequantizeLinear around the node, which ONNX Runtime fuses to an integer one.

Weights are int8 with a scale per output channel, activations uint8 with one scale per tensor, biases int32 whose scale
is the product of the two, as QLinearConv and QGemm define them. The weight's DequantizeLinear stays in the file: a
session takes it into the integer operator.
"""

import numpy as np
from onnx import TensorProto, numpy_helper

from toolchain.errors import ExportError
from toolchain.export.activations import activation_grid, add_scale_and_zero
from toolchain.export.affine import encode_levels
from toolchain.export.builder import Builder
from toolchain.export.draft import Draft, add_scale
from toolchain.export.objections import common_objection
from toolchain.export.weights import weight_array, weight_grid, weight_levels, weight_scale, weight_zero
from toolchain.formats import TensorFormat
from toolchain.graph import Graph, Node

# Accumulated int32 products must not overflow when the bias is added: it may take half of the range.
_BIAS_LIMIT = 2.0**30


def objection(graph: Graph, node: Node, weight_format: TensorFormat | None) -> str:
    """Return why a node cannot run in int8; empty when it can."""
    if node.op not in ("Conv", "Gemm", "MatMul"):
        return f"there is no int8 {node.op}"
    reason = common_objection(graph, node, weight_format)
    if reason:
        return reason
    if weight_format is not None and weight_format.grid is not None and weight_format.grid.block_size:
        return "its scales run along blocks of its inputs, which no 8-bit kernel knows"
    if len(node.inputs) > 2 and node.inputs[2] and len(graph.consumers()[node.inputs[2]]) > 1:
        return "its bias is shared with other nodes"
    return ""


def _store_weight(draft: Draft, name: str, levels: np.ndarray, needs_zero_point: bool) -> None:
    """Store weight ``name`` as int8 levels behind a DequantizeLinear that makes the float weight under its own name."""
    grid = weight_grid(draft.module, name)
    if grid is None:
        raise ExportError(f"weight {name!r} is on no grid, so it has no int8 levels")
    child = draft.builder.fork()
    value = child.fresh()
    zero = weight_zero(draft.module, name)
    if zero is not None and grid.axis is not None:
        zero = zero.reshape([-1 if axis == grid.axis else 1 for axis in range(levels.ndim)])
    encoding = encode_levels(child, levels, zero, value, draft.graph.opset)
    steps = _bounded_scale(draft, name, levels)
    inputs = [value, add_scale(child, steps)]
    if needs_zero_point:
        inputs.append(_zero_points(child, steps.shape))
    child.node("DequantizeLinear", inputs, {} if grid.axis is None else {"axis": grid.axis}, name)
    draft.adopt(name, encoding, "int8", child)


def _zero_points(builder: Builder, shape: tuple[int, ...]) -> str:
    zeros = np.zeros(shape, np.int8)
    if zeros.size <= 64:  # about what the node takes
        return builder.constant(zeros)
    fill = numpy_helper.from_array(np.zeros(1, np.int8))
    return builder.node("ConstantOfShape", [builder.ints(shape)], {"value": fill})


def _bounded_scale(draft: Draft, name: str, levels: np.ndarray) -> np.ndarray:
    """Return the weight's scale, raised in channels that are all zero until the bias fits int32.

    Such a channel has any scale, often a tiny one, of which the bias would be too many steps.
    """
    scale, grid = weight_scale(draft.module, name), weight_grid(draft.module, name)
    if grid is None or grid.axis is None:
        return scale
    empty = ~levels.astype(bool).any(axis=tuple(axis for axis in range(levels.ndim) if axis != grid.axis))
    if empty.any():
        scale = np.where(empty, np.maximum(scale, scale.max()), scale).astype(np.float32)
    return scale


def _store_bias(builder: Builder, steps: np.ndarray) -> str:
    if steps.size > 16 and np.abs(steps).max() < 2**15:  # half the bytes, for a node that takes about 24
        return builder.cast(builder.tensor(steps.astype(np.int16)), TensorProto.INT32)
    return builder.tensor(steps.astype(np.int32))


def lower_int8(draft: Draft, node: Node) -> None:
    """Store the node's weight as int8 and its bias as int32; its activations are rounded by their formats.

    Raises:
        ExportError: a bias is too large for int32 steps of this input and weight scale.
    """
    grid = activation_grid(draft, node.inputs[0], node)
    weight = node.inputs[1]
    levels = weight_levels(draft.module, weight)
    if weight not in draft.stored:
        users = draft.graph.consumers()[weight]
        # A Gemm whose weight names no zero point is not fused to QGemm; Conv and MatMul are.
        _store_weight(draft, weight, levels, any(user.op == "Gemm" for user, _ in users))
    if len(node.inputs) < 3 or not node.inputs[2]:
        return
    bias = node.inputs[2]
    weight_steps = _bounded_scale(draft, weight, levels)
    steps = np.float32(grid.scale.item()) * weight_steps
    quantized = np.rint(weight_array(draft.module, bias).astype(np.float64) / steps)
    if np.abs(quantized).max() > _BIAS_LIMIT:
        raise ExportError(
            f"{node.op} node {node.name!r}: bias {bias!r} is {np.abs(quantized).max():.2g} steps of its int8 kernel, "
            f"int32 holds {_BIAS_LIMIT:.2g}",
            hint="keep this node in float",
        )
    child = draft.builder.fork()
    value = _store_bias(child, quantized)
    scale = add_scale(child, weight_steps)
    scale = child.node("Mul", [scale, add_scale_and_zero(child, grid, node.inputs[0])[0]])
    child.node("DequantizeLinear", [value, scale], {"axis": 0} if steps.ndim else {}, bias)
    draft.adopt(bias, "dense", "int8", child)
