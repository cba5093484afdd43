"""Packed positions and values of what is kept, for pruned tensors.

The gaps between kept positions are Rice codes (Rice and Plaunt 1971; the optimal prefix code of geometric gaps is of
this kind, Gallager and van Voorhis 1975): ``gap - 1`` is ``quotient * 2**r + low``, the quotients are written in unary
as that many 0 bits and a 1 in one bit stream, the ``r`` low bits apart. Every bit of the stream is one step along the
tensor: a 0 goes forward by ``2**r`` and writes the background, a 1 goes forward by ``low + 1`` and writes a value, so
two running sums rebuild all positions, and steps never meet. With ``r = 0`` the stream is a bitmask. Nodes whose output
shape depends on data (NonZero, Compress) are not folded by ONNX Runtime, so none is used.
"""

import numpy as np
from onnx import numpy_helper

from toolchain.export.builder import Builder
from toolchain.export.encodings import bits, levels
from toolchain.export.encodings.content import Content

# Widths that unpack cheaply; 16 keeps the bit stream of a nearly empty tensor short.
PARAMETERS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 16)


def encode(builder: Builder, content: Content, output: str) -> bool:
    """Store kept positions by Rice codes and kept values by the narrowest codes, or as they are for float32."""
    array = content.array
    if not array.size:
        return False
    flat = array.reshape(-1)
    index = np.flatnonzero(content.kept(flat))
    axes = tuple(range(array.ndim))
    if not index.size:
        fill = numpy_helper.from_array(content.fill)
        builder.node("ConstantOfShape", [builder.ints(array.shape)], {"value": fill}, output)
        return True
    parameter, size = best_parameter(index, array.size)
    turned = (*axes[1:], 0)
    if array.ndim > 1:
        other = np.ascontiguousarray(array.transpose(turned)).reshape(-1)
        other_index = np.flatnonzero(content.kept(other))
        other_parameter, other_size = best_parameter(other_index, array.size)
        if other_size + max(TRANSPOSE_BYTES, size // 64) < size:
            value = _flat(builder, content, other[other_index], other_index, other_parameter)
            value = builder.node("Reshape", [value, builder.ints([array.shape[axis] for axis in turned])])
            builder.node("Transpose", [value], {"perm": [axes[-1], *axes[:-1]]}, output)
            return True
    value = _flat(builder, content, flat[index], index, parameter)
    builder.node("Reshape", [value, builder.ints(array.shape)], output=output)
    return True


# What storing the transposed tensor costs: one node, and a shape that other tensors do not share. Of a large tensor it
# must save a 64th, since it is turned at every load.
TRANSPOSE_BYTES = 48


def best_parameter(index: np.ndarray, size: int) -> tuple[int, int]:
    """Return the Rice parameter that takes the fewest bytes for the sorted positions ``index``, and those bytes."""
    below = np.diff(index, prepend=-1) - 1
    sizes = {}
    for parameter in PARAMETERS:
        stream = size if parameter == 0 else index.size + int((below >> parameter).sum())
        sizes[parameter] = packed_size = (stream + 7) // 8
        if parameter:
            sizes[parameter] = packed_size + bits.packed_bytes(index.size + 1, parameter)
    best = min(sizes, key=lambda parameter: sizes[parameter])
    return best, sizes[best]


def split_gaps(index: np.ndarray, parameter: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps, uint8 0 or 1, and the low parts of the gaps behind that of a step over the background."""
    below = np.diff(index, prepend=-1) - 1
    ends = np.cumsum((below >> parameter) + 1) - 1
    stream = np.zeros(ends[-1] + 1, np.uint8)
    stream[ends] = 1
    return stream, np.concatenate([[2**parameter - 1], below & (2**parameter - 1)])


def steps(index: np.ndarray, parameter: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ``split_gaps``, and for parameter 0 a step for each of ``size`` elements."""
    stream, low = split_gaps(index, parameter)
    if parameter == 0:
        stream = np.concatenate([stream, np.zeros(size - stream.size, np.uint8)])
    return stream, low


def number_kept(builder: Builder, step: str) -> str:
    """Add nodes that make 1, 2, 3, ... of the steps that write a value; 0, the background's place, of the others."""
    number = builder.node("CumSum", [step, builder.constant(np.array(0, np.int64))])
    return builder.node("Mul", [number, step])


def sum_steps(builder: Builder, number: str, low: str) -> str:
    """Add nodes that make the positions of all steps, from 1 on, of the numbers of what is kept and the low parts."""
    one = builder.constant(np.array(1, np.int32))
    forward = builder.node("Gather", [builder.node("Add", [low, one]), number])
    return builder.node("CumSum", [forward, builder.constant(np.array(0, np.int64))])


def scatter(builder: Builder, content: Content, size: int, decoded: tuple[str, str, str]) -> str:
    """Add nodes that put values where they belong among ``size`` elements of background.

    Args:
        builder: takes the nodes.
        content: whose background it is.
        size: of the vector.
        decoded: the values of all steps, the numbers of what is kept, and the low parts of the gaps, int32.
    """
    values, number, low = decoded
    position = builder.node("Sub", [sum_steps(builder, number, low), builder.constant(np.array(1, np.int32))])
    empty = builder.node(
        "Expand", [builder.constant(content.fill), builder.ints([size])]
    )  # shorter than a ConstantOfShape
    return builder.node("ScatterElements", [empty, position, values])


def _flat(builder: Builder, content: Content, kept: np.ndarray, index: np.ndarray, parameter: int) -> str:
    """Add nodes that rebuild the flat tensor whose elements ``index`` hold ``kept``."""
    size = content.array.size
    stream, low = steps(index, parameter, size)
    step = bits.decode(builder, bits.encode(stream, 1), 1)
    if stream.size % 8:
        step = builder.node("Slice", [step, builder.ints([0]), builder.ints([stream.size])])
    number = "" if parameter == 0 and _is_single(kept) else number_kept(builder, step)
    values = builder.node("Gather", [_table(builder, content, kept), step if _is_single(kept) else number])
    if parameter == 0:
        return values
    low_parts = bits.decode(builder, bits.encode(low, parameter), parameter)
    return scatter(builder, content, size, (values, number, low_parts))


def _is_single(kept: np.ndarray) -> bool:
    """Return whether all kept values are the same, so that they need no codes."""
    return kept.itemsize == 1 and bool((kept == kept[0]).all())


def _table(builder: Builder, content: Content, kept: np.ndarray) -> str:
    """Add the kept values in order, behind the background at index 0; a single level once."""
    if kept.dtype == np.float32 or _is_single(kept):
        return builder.tensor(np.concatenate([content.fill, kept[:1] if _is_single(kept) else kept]))
    codes = levels.Codes.of(kept)
    if codes.width >= 8 or codes.levels.size < 2**codes.width:  # the codes have room for the background
        return levels.Codes.of(np.concatenate([content.fill, kept])).store(builder)
    return builder.node("Concat", [builder.constant(content.fill), codes.store(builder)], {"axis": 0})
