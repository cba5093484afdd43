"""Units of weights of which few patterns are kept: each pattern once, and a code for every unit.

N of every M weights, the kernels of pattern pruning, rows of a matrix whose outputs read the same inputs by groups.
The codes and the patterns are again tensors, with structure of their own: the units that keep nothing are the
background of the codes, the patterns of groups of convolutions consist of whole kernels.
"""

import numpy as np
from onnx import TensorProto

from toolchain.export.builder import Builder
from toolchain.export.encodings import levels, positions
from toolchain.export.encodings.content import Content, Inner
from toolchain.export.encodings.cuts import Cut, count_patterns, entropy

_MOST = 256  # patterns that a code of 8 bits tells apart


def encode(builder: Builder, content: Content, output: str, cut: Cut, units: np.ndarray, inner: Inner) -> None:
    """Store patterns, their codes and the kept values by ``inner``, which adds a content under a name."""
    patterns, index, counts = count_patterns(units)
    order = np.argsort(np.where(patterns.any(1), -counts, -units.shape[0] - 1), kind="stable")  # what is empty first
    code = np.empty(len(order), np.uint8)
    code[order] = np.arange(len(order))
    values = cut.split(content.array, content.fill[0])[units]
    steps = _decode_patterns(builder, patterns[order].reshape(-1, *cut.unit), code[index].reshape(cut.units), inner)
    number = positions.number_kept(builder, builder.node("Reshape", [steps, builder.ints([-1])]))
    kept_values = builder.fresh()
    inner(builder, Content(values, content.background), kept_values)
    table = builder.node("Concat", [builder.constant(content.fill), kept_values], {"axis": 0})
    cut.join(builder, builder.node("Gather", [table, number]), output)


def _decode_patterns(builder: Builder, patterns: np.ndarray, codes: np.ndarray, inner: Inner) -> str:
    """Add nodes that make 1 where a weight is kept and 0 elsewhere, int32, unit by unit."""
    names = builder.fresh(), builder.fresh()
    for name, values in zip(names, (patterns.astype(np.uint8), codes), strict=True):
        inner(builder, Content(values), name)
    rows, index = (builder.cast(name, TensorProto.INT32) for name in names)
    return builder.node("Gather", [rows, index])


def cost(units: np.ndarray, count: int) -> float:
    """Return the bits of the patterns and of one code for every unit; infinite where there are too many patterns."""
    patterns, _, counts = count_patterns(units)
    scale = count / len(units)
    every = len(patterns) + np.count_nonzero(counts == 1) * (scale - 1)  # other samples have others, at most so many
    if every > _MOST:
        return np.inf
    full = counts[patterns.any(1)]
    share = full.sum() / len(units)
    codes = min(count * entropy(share) + _codes(full, scale), _codes(counts, scale))
    return float(codes + every * units.shape[1] * entropy(float(patterns.mean())))


def _codes(counts: np.ndarray, scale: float) -> float:
    """Return the bits of codes that are as narrow as it pays, those of rare patterns one by one."""
    ordered = np.sort(counts)[::-1]
    widths = range((len(ordered) - 1).bit_length() + 1)
    return float(scale * min(width * counts.sum() + ordered[2**width :].sum() * levels.PATCH_BITS for width in widths))
