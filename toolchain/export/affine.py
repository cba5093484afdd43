"""Levels of grids whose zero point differs by channel, or whose scale differs by block, stored at their true width.

Such a level is stored as its code, which a grid of b bits has ``2**b`` of, and rebuilt by a subtraction; its distance
from the zero point, which is what kernels multiply, has up to twice as many values. Zeros of a pruned tensor are all
the same distance and many codes, so the smaller of both is taken.
"""

import numpy as np
from onnx import TensorProto

from toolchain.export.builder import Builder
from toolchain.export.draft import Draft, add_scale
from toolchain.export.encodings import Content, encode_smallest
from toolchain.export.weights import weight_levels, weight_scale, weight_zero
from toolchain.formats import Grid

SLICE_BY_INPUTS = 10  # the opset from which Slice takes its bounds as inputs


def store_affine(draft: Draft, name: str, grid: Grid) -> None:
    """Store float32 weight ``name`` as levels, zero points and scales, which may run along blocks."""
    levels, scale, zero = (
        weight_levels(draft.module, name),
        weight_scale(draft.module, name),
        weight_zero(draft.module, name),
    )
    shape, axis = levels.shape, grid.axis or 0
    if grid.block_size:
        levels = _in_blocks(np.moveaxis(levels, axis, 0), scale.shape[1], grid.block_size)
        across: tuple[int, ...] = (*scale.shape, 1)
    else:
        across = tuple(-1 if place == grid.axis else 1 for place in range(levels.ndim))
    child = draft.builder.fork()
    value, output = child.fresh(), child.fresh() if grid.block_size else name
    encoding = encode_levels(
        child, levels, None if zero is None else zero.reshape(across), value, draft.graph.opset, floats=True
    )
    child.node("Mul", [value, add_scale(child, scale.reshape(across))], output=output)
    if grid.block_size:
        moved = (shape[axis], *np.delete(shape, axis).tolist())
        value = _without_fill(child, output, moved, levels[0].size, draft.graph.opset)
        _to_place(child, value, moved, axis, name)
    draft.adopt(name, encoding, "float", child)


def encode_levels(
    builder: Builder, levels: np.ndarray, zero: np.ndarray | None, output: str, opset: int, floats: bool = False
) -> str:
    """Add ``levels`` under the name ``output`` by the fewest bytes, and return the encoding's name.

    Args:
        builder: takes the nodes.
        levels: less their zero points; int8, or int16 where these are given.
        zero: uint8 zero points that broadcast over the levels; None where all are 0.
        output: the name of the result.
        opset: of the file.
        floats: whether the result is to be float32; else it is int8.
    """
    found: list[tuple[Builder, str]] = []
    if levels.dtype == np.int8:
        child = builder.fork()
        found.append((child, encode_smallest(child, Content(levels, floats=floats), output, opset)))
    if zero is not None:
        child = builder.fork()
        value = child.fresh()
        codes = (levels + zero.astype(np.int16)).astype(np.uint8)
        name = encode_smallest(child, Content(codes, floats=True), value, opset)
        shift = child.cast(child.constant(zero), TensorProto.FLOAT)
        value = child.node("Sub", [value, shift], output=output if floats else "")
        if not floats:
            child.cast(value, TensorProto.INT8, output)
        found.append((child, name))
    best, encoding = min(found, key=lambda item: item[0].bytes)
    builder.absorb(best)
    return encoding


def _in_blocks(levels: np.ndarray, blocks: int, size: int) -> np.ndarray:
    """Return levels ``[C, ...]`` as ``[C, blocks, size]``, the last block filled up with zeros."""
    rows = levels.reshape(len(levels), -1)
    return np.pad(rows, ((0, 0), (0, blocks * size - rows.shape[1]))).reshape(len(levels), blocks, size)


def _without_fill(builder: Builder, value: str, moved: tuple[int, ...], padded: int, opset: int) -> str:
    """Add nodes that drop what fills up the last block; ``moved`` is the shape with the axis of blocks first."""
    others = int(np.prod(moved[1:]))
    if padded == others:
        return value
    value = builder.node("Reshape", [value, builder.ints([moved[0], padded])])
    if opset < SLICE_BY_INPUTS:
        return builder.node("Slice", [value], {"starts": [0], "ends": [others], "axes": [1]})
    return builder.node("Slice", [value, builder.ints([0]), builder.ints([others]), builder.ints([1])])


def _to_place(builder: Builder, value: str, moved: tuple[int, ...], axis: int, output: str) -> None:
    """Add nodes that give the weight its shape; ``moved`` is that with ``axis`` first."""
    if axis == 0:
        builder.node("Reshape", [value, builder.ints(moved)], output=output)
        return
    value = builder.node("Reshape", [value, builder.ints(moved)])
    order = [*range(1, axis + 1), 0, *range(axis + 1, len(moved))]
    builder.node("Transpose", [value], {"perm": order}, output)
