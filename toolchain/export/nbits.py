"""The nbits kernel: com.microsoft's MatMulNBits, a matrix product with a weight of 2, 4 or 8 bits.

The operator's layout is uint8 ``[N, blocks, block_size * bits / 8]``, first value in the lowest bits, with
``value = scale * (q - 2**(bits - 1))``. The weight is decoded to that layout at load. ``accuracy_level=4`` lets the
kernel round activations to int8 block by block; without it ONNX Runtime's 2- and 8-bit products are slower than float.

A 1x1 Conv is such a product between two Transposes. That is faster than the integer Conv on a single position alone
(1280 to 1000 channels: 0.069 ms in float, 0.046 in int8, 0.025 in 4 bits), and faster than the float one on images up
to about 14x14 (1024 to 256 channels: 1.04 ms, 0.29, 0.75), which counts where activations are not to be calibrated.
"""

from typing import cast

import numpy as np
from onnx import TensorProto

from toolchain.export.builder import Builder, make_node
from toolchain.export.draft import Draft, add_scale
from toolchain.export.encodings import Content, encode_smallest, lanes, units
from toolchain.export.objections import common_objection, matrix_objection
from toolchain.export.weights import weight_levels, weight_scale
from toolchain.formats import OwnRange, TensorFormat
from toolchain.graph import Graph, Node
from toolchain.graph.weights import output_axis
from toolchain.module import OnnxModule

# Larger blocks are faster and need fewer scales; a smaller one is taken where padding K to it would waste a twentieth.
_BLOCK_SIZES = (128, 64, 32, 16)

# Levels above which the memory that decoding takes counts for more than some hundred bytes.
_LARGE = 1 << 20

OPERATOR_BLOCK_SIZES = (16, 32, 64, 128, 256)

# Those of which the products of 2-bit weights stay in float, whatever the accuracy level (onnxruntime 1.31.1, x86).
_FLOAT_BLOCKS = (16, 256)


def objection(graph: Graph, node: Node, weight_format: TensorFormat | None) -> str:
    """Return why a node cannot run as MatMulNBits; empty when it can."""
    if node.op not in ("Conv", "Gemm", "MatMul"):
        return f"there is no MatMulNBits for {node.op}"
    if node.op == "Conv":
        reason = common_objection(graph, node, weight_format) or _window_objection(graph, node)
    else:
        reason = matrix_objection(graph, node, weight_format)
    if reason or weight_format is None or weight_format.grid is None:
        return reason
    grid = weight_format.grid
    if grid.axis not in (None, output_axis(node, 1, len(graph.initializers.shape(node.inputs[1])))):
        return "its scales do not run along the output channels"
    if grid.block_size and grid.block_size not in OPERATOR_BLOCK_SIZES:
        return f"it has no blocks of {grid.block_size} values, only of {', '.join(map(str, OPERATOR_BLOCK_SIZES))}"
    return ""


def _window_objection(graph: Graph, node: Node) -> str:
    """Return why a Conv is no product of every position's channels with one matrix; empty when it is."""
    shape, attributes = graph.initializers.shape(node.inputs[1]), node.attributes
    steps = [*cast("list[int]", attributes.get("strides") or []), cast("int", attributes.get("group", 1))]
    pads = cast("list[int]", attributes.get("pads") or [])
    is_point = set(shape[2:]) == {1} and set(steps) == {1} and not any(pads)
    return "" if is_point else "there is no MatMulNBits for Conv unless it is 1x1, without strides, padding and groups"


def bits_for(levels: np.ndarray) -> int:
    """Return the fewest bits whose range, ``-2**(bits - 1)`` to ``2**(bits - 1) - 1``, holds all levels."""
    low, high = int(levels.min()), int(levels.max())
    return next(bits for bits in (2, 4, 8) if -(2 ** (bits - 1)) <= low and high < 2 ** (bits - 1))


def block_size(k: int) -> int:
    """Return the block size for an inner dimension of ``k``."""
    return next((size for size in _BLOCK_SIZES if -(-k // size) * size <= k * 1.05), _BLOCK_SIZES[-1])


def lower_nbits(draft: Draft, node: Node) -> None:
    """Replace a MatMul, a Gemm or a 1x1 Conv by MatMulNBits under the same node and output names."""
    weight = node.inputs[1]
    levels = weight_levels(draft.module, weight)
    rank, levels = levels.ndim, levels.reshape(len(levels), -1)
    levels = levels if output_axis(node, 1, rank) == 0 else levels.T  # [N, K]
    rows, k = levels.shape
    grid = draft.module.formats[weight].grid
    bits, block = bits_for(levels), grid.block_size if grid is not None and grid.block_size else block_size(k)
    blocks = -(-k // block)
    scale, shape = weight_scale(draft.module, weight), (rows, blocks)
    if weight in draft.stored:
        steps = _add_steps(draft.builder, scale, shape)
    else:
        child = draft.builder.fork()
        values = _blocked(levels, bits, blocks * block)
        encoding = _store_levels(child, values, shape, bits, weight, draft.graph.opset)
        steps = _add_steps(child, scale, shape)
        draft.adopt(weight, encoding, "nbits", child)
    proto, value, output = draft.edit(node), node.inputs[0], node.outputs[0]
    if node.op == "Conv":  # channels come last in a product
        value = draft.add_before(node, "Transpose", [value], {"perm": [0, *range(2, rank), 1]})
        output = draft.builder.fresh()
        draft.add_after(node, "Transpose", [output], {"perm": [0, rank - 1, *range(1, rank - 1)]}, node.outputs[0])
    inputs = [value, weight, steps]
    if len(node.inputs) > 2 and node.inputs[2]:
        inputs += ["", "", node.inputs[2]]
    attributes = {"K": k, "N": rows, "bits": bits, "block_size": block, "accuracy_level": 4}
    proto.CopyFrom(make_node("MatMulNBits", inputs, [output], attributes, proto.name, domain="com.microsoft"))


def input_range(module: OnnxModule, node: Node) -> OwnRange | None:
    """Return how the operator rounds the input of a node, by ``accuracy_level`` 4; None where it does not."""
    weight = node.inputs[1]
    grid, shape = module.formats[weight].grid, module.graph.initializers.shape(weight)
    k = shape[1 - output_axis(node, 1, len(shape))]
    block = grid.block_size if grid is not None and grid.block_size else block_size(k)
    if block in _FLOAT_BLOCKS and bits_for(weight_levels(module, weight)) == 2:
        return None
    return OwnRange(1 if node.op == "Conv" else -1, block)


def _add_steps(builder: Builder, scale: np.ndarray, shape: tuple[int, int]) -> str:
    """Add the scale of every block, ``[N, blocks]``, of one per block, per output or for all."""
    steps = add_scale(builder, scale.reshape(len(scale) if scale.ndim else 1, -1))
    if scale.size == shape[0] * shape[1]:
        return steps
    return builder.node("Expand", [steps, builder.ints(shape)])


def _blocked(levels: np.ndarray, bits: int, padded: int) -> np.ndarray:
    """Return ``level + 2**(bits - 1)`` as uint8 ``[N, padded]``.

    The kernel pads activations with zeros, so padding may have any value: one that occurs, for the sake of the codes.
    """
    rows, k = levels.shape
    zero = 2 ** (bits - 1)
    padding = zero if not levels.all() else zero + int(levels[0, 0])
    values = np.full((rows, padded), padding, np.uint8)
    values[:, :k] = (levels + np.int16(zero)).astype(np.uint8)
    return values


def _store_levels(
    builder: Builder, values: np.ndarray, blocks: tuple[int, int], bits: int, output: str, opset: int
) -> str:
    """Add ``values`` in the operator's bytes: as they are, or by the fewest bytes that decode to them."""
    per = 8 // bits
    shape = (*blocks, -1)
    if per == 1:
        return encode_smallest(builder, Content(values.reshape(shape), 2 ** (bits - 1)), output, opset)
    # Plane i holds the i-th value of every byte: one row times a wide matrix, which the runtime multiplies fast.
    planes = np.ascontiguousarray(values.reshape(-1, per).T)
    weights = (2 ** (np.arange(per) * bits)).astype(np.uint8).reshape(1, -1)
    packed = (weights @ planes).reshape(shape)
    by_row = Content(planes.reshape(per, blocks[0], -1), 2 ** (bits - 1))
    has_units = builder.packs and units.is_cheaper(by_row)  # of several outputs or inputs: far fewer bytes than lanes
    if builder.packs and opset >= lanes.OPSET and planes.size >= _LARGE and not has_units:
        child = builder.fork()
        if lanes.encode(child, planes, 2 ** (bits - 1), packed.shape, output) and child.bytes < packed.nbytes:
            builder.absorb(child)
            return "packed"
    child = builder.fork()
    value = child.fresh()
    encoding = encode_smallest(child, by_row if has_units else Content(planes, 2 ** (bits - 1)), value, opset)
    if has_units:
        value = child.node("Reshape", [value, child.ints(planes.shape)])
    value = child.node("MatMulInteger", [child.constant(weights), value])
    value = child.cast(value, TensorProto.UINT8)
    child.node("Reshape", [value, child.ints(packed.shape)], output=output)
    if child.bytes < packed.nbytes:
        builder.absorb(child)
        return encoding
    return encode_smallest(builder, Content(packed), output, opset=7)
