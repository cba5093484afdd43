"""Units of weights that are kept or pruned together: one position for each, and the values of those that are kept.

A block of outputs and inputs, a kernel, the weights of an input channel: whatever neighbours along one dimension are
mostly empty together. Which units are kept, and what they hold, are again tensors, with structure of their own.
"""

import numpy as np
from onnx import TensorProto

from toolchain.export.builder import Builder
from toolchain.export.encodings import positions
from toolchain.export.encodings.content import Content, Inner
from toolchain.export.encodings.cuts import Cut, entropy


def encode(builder: Builder, content: Content, output: str, cut: Cut, units: np.ndarray, inner: Inner) -> None:
    """Store which units hold anything, and those, by ``inner``, which adds a content under a name."""
    array = content.array
    whole = units.any(1)
    padding = array[content.kept(array)][0]  # one of the values, so that no code is spent on it
    held = np.ascontiguousarray(cut.split(array, padding)[whole])
    which, values = builder.fresh(), builder.fresh()
    inner(builder, Content(whole.astype(np.uint8).reshape(cut.units)), which)
    inner(builder, Content(held, content.background), values)
    step = builder.cast(which, TensorProto.INT32)
    if len(cut.units) > 1:
        step = builder.node("Reshape", [step, builder.ints([-1])])
    number = positions.number_kept(builder, step)
    empty = builder.node("Expand", [builder.constant(content.fill), builder.ints([1, cut.size])])
    table = builder.node("Concat", [empty, values], {"axis": 0})
    cut.join(builder, builder.node("Gather", [table, number]), output)


def cost(units: np.ndarray, count: int) -> float:
    """Return the bits of the positions of units that hold anything, and of the weights inside those."""
    held = units.any(1)
    share = float(held.mean())
    inside = float(units[held].mean()) if share else 0.0
    return float(count * (entropy(share) + share * units.shape[1] * entropy(inside)))
