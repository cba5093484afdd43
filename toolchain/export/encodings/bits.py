"""Unsigned integers of any width in bytes: packed by numpy, unpacked by ONNX nodes that fold at load.

Operators of opset 11 only. ``BitShift`` and ``Mod`` split bytes; widths that do not divide 8 are put together again
from single bits by one ``MatMulInteger`` with the powers of two.
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
    per = 8 // width if width in ALIGNED else 8
    padded = np.zeros(-(-len(values) // per) * per, np.uint8)
    padded[: len(values)] = values
    if width in ALIGNED:
        groups = padded.reshape(-1, per)
        packed = groups[:, 0].copy()
        for column in range(1, per):
            packed |= groups[:, column] << np.uint8(column * width)
        return packed.reshape(-1, 1)
    bits = np.unpackbits(padded.reshape(-1, 1), axis=1, count=width, bitorder="little")
    return np.packbits(bits.reshape(-1), bitorder="little").reshape(-1, 1)


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
        value = builder.node("Reshape", [value, builder.ints([-1, width])])
        weights = builder.constant(2 ** np.arange(width, dtype=np.uint8))
        return builder.node("MatMulInteger", [value, weights])
    value = builder.node("Reshape", [value, builder.ints([-1])])
    return builder.cast(value, TensorProto.INT32)
