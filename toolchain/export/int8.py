"""The int8 kernel: QuantizeLinear and DequantizeLinear around the node, which ONNX Runtime fuses to an integer one.

Weights are int8 with a scale per output channel, activations uint8 with one scale per tensor, biases int32 whose scale
is the product of the two, as QLinearConv and QGemm define them. The weight's DequantizeLinear stays in the file: a
session takes it into the integer operator.
"""

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, numpy_helper

from toolchain.errors import ExportError
from toolchain.export.activations import activation_grid, add_scale_and_zero
from toolchain.export.affine import encode_levels
from toolchain.export.builder import Builder
from toolchain.export.draft import Draft, add_scale
from toolchain.export.normalized import affine_of, normalization_of
from toolchain.export.objections import common_objection
from toolchain.export.weights import weight_array, weight_grid, weight_levels, weight_scale, weight_zero
from toolchain.formats import TensorFormat
from toolchain.graph import Graph, Node

# Accumulated int32 products must not overflow when the bias is added: it may take half of the range.
_BIAS_LIMIT = 2.0**30
_LEAST_SCALE = 2.0**-100  # of a channel that a normalization multiplies by zero


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


@dataclass(frozen=True, eq=False)
class Product:
    """What an integer node computes of integers: ``scale * levels`` times its input, plus ``bias``.

    Attributes:
        levels: int8, the weight's shape.
        scale: float32, ``[]`` or ``[C]`` along ``axis``.
        axis: of the weight's outputs; None where there is one scale.
        zero: of the codes that ``levels`` are stored as, as it broadcasts over them; None where they are the levels.
        bias: float64 ``[C]``; None where there is none.
        name: of the constant that holds the bias; empty where it has to be made.
    """

    levels: np.ndarray
    scale: np.ndarray
    axis: int | None
    zero: np.ndarray | None
    bias: np.ndarray | None
    name: str


def _product_of(draft: Draft, node: Node) -> Product:
    weight, module = node.inputs[1], draft.module
    grid = weight_grid(module, weight)
    if grid is None:
        raise ExportError(f"weight {weight!r} is on no grid, so it has no int8 levels")
    levels = weight_levels(module, weight)
    zero = weight_zero(module, weight)
    if zero is not None and grid.axis is not None:
        zero = zero.reshape([-1 if axis == grid.axis else 1 for axis in range(levels.ndim)])
    name = node.inputs[2] if len(node.inputs) > 2 else ""
    bias = weight_array(module, name).astype(np.float64) if name else None
    return Product(levels, _bounded_scale(weight_scale(module, weight), levels, grid.axis), grid.axis, zero, bias, name)


def _take_in(draft: Draft, node: Node, normalization: Node, step: float) -> Product:
    """Return the product of a Conv and the normalization behind it, which is then not written.

    Where a factor is so small that the bias would not fit int32 steps, the channel's levels are rounded to larger
    ones; what that changes is less than a step of the bias.
    """
    plain, affine = _product_of(draft, node), affine_of(draft.module, normalization)
    bias = affine.shift if plain.bias is None else plain.bias * affine.factor + affine.shift
    exact = np.abs(affine.factor) * plain.scale
    scale = np.maximum(exact, np.maximum(np.abs(bias) / (0.9 * _BIAS_LIMIT * step), _LEAST_SCALE)).astype(np.float32)
    across = (-1, *[1] * (plain.levels.ndim - 1))
    ratio = np.where(scale > np.float32(1.0001) * exact, exact / scale, 1.0) * np.where(affine.factor < 0, -1, 1)
    levels = np.rint(plain.levels * ratio.reshape(across)).astype(np.int8)
    draft.merge(node, normalization)
    name = plain.name
    if not name:
        beta = normalization.inputs[2]
        name = beta if beta in draft.replaced else draft.builder.fresh()
        written = draft.edit(node)
        written.input[2:] = [name]
    return Product(levels, _bounded_scale(scale, levels, 0), 0, None, bias, name)


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


def _bounded_scale(scale: np.ndarray, levels: np.ndarray, axis: int | None) -> np.ndarray:
    """Return the weight's scale, raised in channels that are all zero until the bias fits int32.

    Such a channel has any scale, often a tiny one, of which the bias would be too many steps.
    """
    if axis is None:
        return scale
    empty = ~levels.astype(bool).any(axis=tuple(other for other in range(levels.ndim) if other != axis))
    if empty.any():
        scale = np.where(empty, np.maximum(scale, scale.max()), scale).astype(np.float32)
    return scale


def lower_int8(draft: Draft, node: Node) -> None:
    """Store the node's weight as int8 and its bias as int32; its activations are rounded by their formats.

    A normalization behind a Conv goes into both.

    Raises:
        ExportError: a bias is too large for int32 steps of this input and weight scale.
    """
    grid, weight = activation_grid(draft, node.inputs[0], node), node.inputs[1]
    product = integer_product(draft, node, grid.scale.item())
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


def integer_product(draft: Draft, node: Node, step: float) -> Product:
    """Return what an integer node computes of an input in steps of ``step``, a normalization behind it taken in."""
    normalization = normalization_of(draft.graph, draft.graph.consumers(), node)
    return _product_of(draft, node) if normalization is None else _take_in(draft, node, normalization, step)


def bias_steps(node: Node, product: Product, step: float) -> np.ndarray | None:
    """Return the bias of a product in steps of its input times those of its weight, ``[C]``; None where it has none.

    Raises:
        ExportError: they are too many for int32.
    """
    if product.bias is None:
        return None
    steps: np.ndarray = np.rint(product.bias / (np.float32(step) * product.scale))
    if np.abs(steps).max() > _BIAS_LIMIT:
        raise ExportError(
            f"{node.op} node {node.name!r}: bias {product.name!r} is {np.abs(steps).max():.2g} steps of its int8 "
            f"kernel, int32 holds {_BIAS_LIMIT:.2g}",
            hint="keep this node in float",
        )
    return steps


def store_bias(builder: Builder, steps: np.ndarray) -> str:
    """Add a bias in whole steps as int32, by the fewest bytes."""
    if steps.size > 16 and np.abs(steps).max() < 2**15:  # half the bytes, for a node that takes about 24
        return builder.cast(builder.tensor(steps.astype(np.int16)), TensorProto.INT32)
    return builder.tensor(steps.astype(np.int32))
