"""Unsigned integers of any width in bytes: packed by numpy, unpacked by ONNX nodes that fold at load.

Operators of opset 11 only. ``BitShift`` and ``Mod`` split bytes; widths that do not divide 8 are put together again
from single bits by one ``MatMulInteger`` with the powers of two. Those lie plane by plane, the lowest bits of all
values first: the runtime is fast at a row times a wide matrix, and slow at many short rows.
"""

import numpy as np
from onnx import TensorProto

from toolchain.export.builder import Builder

# Widths that a byte or a uint16 holds without a value crossing its border.
ALIGNED = (1, 2, 4, 8, 16)


def packed_bytes(count: int, width: int) -> int:
    """Return the bytes that ``count`` values of ``width`` bits take."""
    if width in ALIGNED:
        return (count * width + 7) // 8
    return (count + 7) // 8 * width  # whole groups of eight values fill whole bytes


def encode(values: np.ndarray, width: int) -> np.ndarray:
    """Pack integers ``0 <= v < 2**width``, lowest bit first: uint8 ``[S, 1]``, or the values for widths 8 and 16."""
    if width == 16:
        return values.astype(np.uint16)
    if width == 8:
        return values.astype(np.uint8)
    values = values.astype(np.uint8)
    if width == 1:
        return np.packbits(values, bitorder="little").reshape(-1, 1)
    if width not in ALIGNED:
        planes = split_planes(values, width)
        return np.packbits(planes, axis=1, bitorder="little").reshape(-1, 1)
    per = 8 // width
    padded = np.zeros(-(-len(values) // per) * per, np.uint8)
    padded[: len(values)] = values
    groups = padded.reshape(-1, per)
    packed = groups[:, 0].copy()
    for column in range(1, per):
        packed |= groups[:, column] << np.uint8(column * width)
    return packed.reshape(-1, 1)


def split_planes(values: np.ndarray, width: int) -> np.ndarray:
    """Return the bits of ``values``, lowest first: uint8 0 or 1, ``[width, values]``."""
    return np.stack([(values >> bit & 1).astype(np.uint8) for bit in range(width)])


def join_planes(builder: Builder, planes: str, count: int, width: int) -> str:
    """Add nodes that make ``count`` values, int32, of the planes of their bits one after the other."""
    if width == 1:
        return builder.cast(planes, TensorProto.INT32)
    planes = builder.node("Reshape", [planes, builder.ints([width, count])])  # takes fewer bytes than a -1
    return builder.node("MatMulInteger", [builder.constant(2 ** np.arange(width, dtype=np.uint8)), planes])


def decode(builder: Builder, packed: np.ndarray, width: int) -> str:
    """Add nodes that unpack what ``encode`` packed: int32, at least as many values as went in (padded by zeros)."""
    value = builder.tensor(packed)
    if width in (8, 16):
        return builder.cast(value, TensorProto.INT32)
    step = width if width in ALIGNED else 1
    shifts = builder.constant(np.arange(0, 8, step, dtype=np.uint8).reshape(1, -1))
    value = builder.node("BitShift", [value, shifts], {"direction": "RIGHT"})
    value = builder.node("Mod", [value, builder.constant(np.array(2**step, np.uint8))])
    if width not in ALIGNED:
        return join_planes(builder, value, 8 * packed.size // width, width)
    value = builder.node("Reshape", [value, builder.ints([-1])])
    return builder.cast(value, TensorProto.INT32)
