"""Values of a tensor as indices into a table of the levels that occur.

A few values of rare levels, without which all codes would be a bit narrower, are put in their places one by one: the
part of a unit that an exact ratio leaves, an odd pattern among others.
"""

from dataclasses import dataclass

import numpy as np

from toolchain.export.builder import Builder
from toolchain.export.encodings import bits

_CHUNK = 1 << 22

# What putting a value in its place takes; and the nodes for it, in bits as well.
PATCH_BITS = 40
_PATCH_NODES = 8 * 100
_MOST_PATCHES = 1 << 12


def find_levels(values: np.ndarray) -> np.ndarray:
    """Return the sorted distinct values of a flat int8 or uint8 array, in bounded memory."""
    return _present(values, _count(values) > 0)


def _count(values: np.ndarray) -> np.ndarray:
    """Return how often each byte occurs: int64 ``[256]``."""
    counts = np.zeros(256, np.int64)
    raw = values.view(np.uint8)
    for start in range(0, raw.size, _CHUNK):
        counts += np.bincount(raw[start : start + _CHUNK], minlength=256)
    return counts


def _present(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    return np.sort(np.flatnonzero(chosen).astype(np.uint8).view(values.dtype))


def find_codes(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return the uint8 index into ``levels`` of every value, 0 of those that are none of them."""
    table = np.zeros(256, np.uint8)
    table[levels.view(np.uint8)] = np.arange(levels.size, dtype=np.uint8)
    return table[values.view(np.uint8)]


@dataclass(frozen=True, eq=False)
class Codes:
    """How values are stored by codes.

    Attributes:
        values: flat int8 or uint8.
        levels: those that have a code.
        rare: where the others are: int32.
    """

    values: np.ndarray
    levels: np.ndarray
    rare: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> "Codes":
        """Return the codes that take the fewest bits."""
        counts = _count(values)
        order = np.argsort(-counts, kind="stable")
        total = int(np.count_nonzero(counts))
        best, least = total, np.inf
        for width in range(1, max(1, code_width(total)) + 1):
            most = min(2**width, total)
            left = int(counts[order[most:]].sum())
            cost = width * values.size + (left and _PATCH_NODES + PATCH_BITS * left)
            if left <= _MOST_PATCHES and cost < least:
                best, least = most, cost
        chosen = np.zeros(256, bool)
        chosen[order[:best]] = True
        rare = np.zeros(0, np.int32)
        if best < total:
            rare = np.flatnonzero(~chosen[values.view(np.uint8)]).astype(np.int32)
        return cls(values, _present(values, chosen & (counts > 0)), rare)

    @property
    def width(self) -> int:
        """Bits of a code."""
        return max(1, code_width(self.levels.size))

    @property
    def decoded_size(self) -> int:
        """How many values are decoded, some padding included."""
        return decoded_size(self.values.size, self.width)

    def store(self, builder: Builder) -> str:
        """Add the values and return their name; the decoded vector may be longer by some padding."""
        if self.width >= 8:
            return builder.tensor(self.values)
        packed = bits.encode(find_codes(self.values, self.levels), self.width)
        found = builder.node("Gather", [builder.constant(self.levels), bits.decode(builder, packed, self.width)])
        if self.rare.size:
            others = builder.constant(self.values[self.rare])
            found = builder.node("ScatterElements", [found, builder.constant(self.rare), others])
        return found


def code_width(count: int) -> int:
    """Return the bits that tell so many levels apart: 0 for one."""
    return (count - 1).bit_length()


def decoded_size(count: int, width: int) -> int:
    """Return the length of the vector that ``count`` codes are decoded to."""
    per = 1 if width >= 8 else 8 // width if width in bits.ALIGNED else 8
    return -(-count // per) * per
