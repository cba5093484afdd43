"""What is left of a tensor without the rows and columns that hold nothing, and which those are.

Rows run along the first dimension, columns along the others together: the filters and columns of a convolution, the
outputs and inputs of a matrix. A bit says of each row and column whether it is there; the runtime gathers them back
from the smaller tensor and one row, or column, of background.
"""

import numpy as np
from onnx import numpy_helper

from toolchain.export.builder import Builder
from toolchain.export.encodings import bits
from toolchain.export.encodings.content import Content, Inner

# Fewer missing values than this part of all are not worth the nodes, nor the time to gather them at every load.
_LEAST_MISSING = 1 / 32


def encode(builder: Builder, content: Content, output: str, inner: Inner) -> bool:
    """Store what is left by ``inner``, which adds a content under a name, and the bits."""
    array = content.array
    if array.ndim < 2 or not array.size:
        return False
    matrix = array.reshape(len(array), -1)
    kept = content.kept(matrix)
    rows, columns = (np.logical_or.reduce(kept, axis) for axis in (1, 0))
    left = int(rows.sum()) * int(columns.sum())
    if not left or left > (1 - _LEAST_MISSING) * array.size:
        return False
    value = builder.fresh()
    inner(builder, Content(np.ascontiguousarray(matrix[rows][:, columns]), content.background), value)
    if not columns.all():
        value = _spread(builder, content, value, columns, 1, (int(rows.sum()), 1))
    if not rows.all():
        value = _spread(builder, content, value, rows, 0, (1, columns.size))
    builder.node("Reshape", [value, builder.ints(array.shape)], output=output)
    return True


def _spread(
    builder: Builder, content: Content, value: str, present: np.ndarray, axis: int, missing: tuple[int, int]
) -> str:
    """Add nodes that put background, of shape ``missing``, wherever a row or column along ``axis`` is not present."""
    fill = numpy_helper.from_array(content.fill)
    background = builder.node("ConstantOfShape", [builder.ints(missing)], {"value": fill})
    table = builder.node("Concat", [background, value], {"axis": axis})
    step = bits.decode(builder, bits.encode(present.astype(np.uint8), 1), 1)
    if present.size % 8:
        step = builder.node("Slice", [step, builder.ints([0]), builder.ints([present.size])])
    number = builder.node("CumSum", [step, builder.constant(np.array(0, np.int64))])
    return builder.node("Gather", [table, builder.node("Mul", [number, step])], {"axis": axis})
