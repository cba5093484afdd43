"""The int8 kernel: QuantizeLinear and DequantizeLinear around the node, which ONNX Runtime fuses to an integer one.

Weights are int8 with a scale per output channel, activations uint8 with one scale per tensor, biases int32 whose scale
is the product of the two, as QLinearConv and QGemm define them. The weight's DequantizeLinear stays in the file: a
session takes it into the integer operator.
"""

from dataclasses import replace

import numpy as np
from onnx import TensorProto, numpy_helper

from toolchain.export.activations import activation_grid, add_scale_and_zero
from toolchain.export.affine import encode_levels
from toolchain.export.builder import Builder
from toolchain.export.draft import Draft, add_scale
from toolchain.export.normalized import normalization_of
from toolchain.export.objections import common_objection
from toolchain.export.products import Product, bias_steps, product_of
from toolchain.formats import TensorFormat
from toolchain.graph import Graph, Node


def objection(graph: Graph, node: Node, weight_format: TensorFormat | None) -> str:
    """Return why a node cannot run in int8; empty when it can."""
    if node.op == "ConvTranspose":
        return "ONNX Runtime has no integer ConvTranspose on the CPU"
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


def _store_weight(draft: Draft, name: str, product: Product, needs_zero_point: bool) -> None:
    """Store weight ``name`` as int8 levels behind a DequantizeLinear that makes the float weight under its own name."""
    child = draft.builder.fork()
    value = child.fresh()
    encoding = encode_levels(child, product.levels, product.zero, value, draft.graph.opset)
    inputs = [value, add_scale(child, product.scale)]
    if needs_zero_point:
        inputs.append(_zero_points(child, product.scale.shape))
    child.node("DequantizeLinear", inputs, {} if product.axis is None else {"axis": product.axis}, name)
    draft.adopt(name, encoding, "int8", child)


def _zero_points(builder: Builder, shape: tuple[int, ...]) -> str:
    zeros = np.zeros(shape, np.int8)
    if zeros.size <= 64:  # about what the node takes
        return builder.constant(zeros)
    fill = numpy_helper.from_array(np.zeros(1, np.int8))
    return builder.node("ConstantOfShape", [builder.ints(shape)], {"value": fill})


def lower_int8(draft: Draft, node: Node) -> None:
    """Store the node's weight as int8 and its bias as int32; its activations are rounded by their formats.

    A normalization behind a Conv goes into both.

    Raises:
        ExportError: a bias is too large for int32 steps of this input and weight scale.
    """
    grid, weight = activation_grid(draft, node.inputs[0], node), node.inputs[1]
    product = take_product(draft, node, grid.scale.item())
    if weight not in draft.stored:
        # A Gemm whose weight names no zero point is not fused to QGemm; Conv and MatMul are.
        _store_weight(draft, weight, product, any(user.op == "Gemm" for user, _ in draft.graph.consumers()[weight]))
    steps = bias_steps(node, product, grid.scale.item())
    if steps is None:
        return
    child = draft.builder.fork()
    value = store_bias(child, steps)
    scale = add_scale(child, product.scale)
    scale = child.node("Mul", [scale, add_scale_and_zero(child, grid, node.inputs[0])[0]])
    child.node("DequantizeLinear", [value, scale], {"axis": 0} if product.scale.ndim else {}, product.name)
    draft.adopt(product.name, "dense", "int8", child)


def take_product(draft: Draft, node: Node, step: float) -> Product:
    """Return what an integer node computes of an input in steps of ``step``; it takes the place of a normalization."""
    product = product_of(draft.module, draft.graph, node, step)
    normalization = normalization_of(draft.graph, draft.graph.consumers(), node)
    if normalization is None:
        return product
    draft.merge(node, normalization)
    if product.name:
        return product
    beta = normalization.inputs[2]
    name = beta if beta in draft.replaced else draft.builder.fresh()
    draft.edit(node).input[2:] = [name]
    return replace(product, name=name)


def store_bias(builder: Builder, steps: np.ndarray) -> str:
    """Add a bias in whole steps as int32, by the fewest bytes."""
    if steps.size > 16 and np.abs(steps).max() < 2**15:  # half the bytes, for a node that takes about 24
        return builder.cast(builder.tensor(steps.astype(np.int16)), TensorProto.INT32)
    return builder.tensor(steps.astype(np.int32))
