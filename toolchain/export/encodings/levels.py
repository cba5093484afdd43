"""Values of a tensor as indices into a table of the levels that occur."""

import numpy as np

from toolchain.export.builder import Builder
from toolchain.export.encodings import bits

_CHUNK = 1 << 22


def find_levels(values: np.ndarray) -> np.ndarray:
    """Return the sorted distinct values of a flat int8 or uint8 array, in bounded memory."""
    counts = np.zeros(256, np.int64)
    raw = values.view(np.uint8)
    for start in range(0, raw.size, _CHUNK):
        counts += np.bincount(raw[start : start + _CHUNK], minlength=256)
    return np.sort(np.flatnonzero(counts).astype(np.uint8).view(values.dtype))


def find_codes(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return the uint8 index into ``levels`` of every value."""
    table = np.zeros(256, np.uint8)
    table[levels.view(np.uint8)] = np.arange(levels.size, dtype=np.uint8)
    return table[values.view(np.uint8)]


def store(builder: Builder, values: np.ndarray) -> str:
    """Add ``values`` (flat int8 or uint8) by the narrowest codes; the decoded vector may be longer by some padding."""
    levels = find_levels(values)
    width = (levels.size - 1).bit_length()
    if width >= 8:
        return builder.tensor(values)
    codes = bits.encode(find_codes(values, levels), max(1, width))
    return builder.node("Gather", [builder.constant(levels), bits.decode(builder, codes, max(1, width))])


def padded_size(values: np.ndarray) -> int:
    """Return the length of the vector that ``store`` decodes to."""
    width = max(1, (find_levels(values).size - 1).bit_length())
    per = 1 if width >= 8 else 8 // width if width in bits.ALIGNED else 8
    return -(-values.size // per) * per
