"""Cuts of a tensor into units of equally many neighbours along one dimension, and which of them its zeros follow.

Structured pruning leaves zeros of which far fewer bits tell than one position per weight does: blocks, kernels, groups
of outputs that read the same inputs, N of every M. Each is a cut whose units are empty or full, or have few patterns.
No cut is known by the structure's name: all are tried, on a sample, and the one that takes the fewest bits is taken.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import log2, prod

import numpy as np

from toolchain.export.builder import Builder

# Neighbours along a dimension that may be a unit, beside all of them; those across rows, for which N:M has the
# patterns of several units in one code of 8 bits: 2:4 has 6, of 12 weights 216.
_SIZES = (2, 4, 8, 16, 32)
_SIZES_ACROSS = (12, 24)

# Elements that a cut is judged by, and how many of the best are judged by the whole tensor.
_SAMPLE = 1 << 16
_LOOKED_AT = 4

# Bits of the nodes that another step of decoding takes; positions that take less than twice that are left as they are.
_NODES = 8 * 300


@dataclass(frozen=True)
class Cut:
    """One way to cut a tensor.

    Attributes:
        shape: of the tensor.
        order: of its dimensions before it is cut.
        depth: how many of them, from the last, are a row.
        size: elements of a unit; the last unit of every row is padded to it.
    """

    shape: tuple[int, ...]
    order: tuple[int, ...]
    depth: int
    size: int

    @cached_property
    def turned(self) -> tuple[int, ...]:
        """The dimensions in their order."""
        return tuple(self.shape[axis] for axis in self.order)

    @property
    def row(self) -> int:
        """Elements of a row."""
        return prod(self.turned[-self.depth :])

    @property
    def padding(self) -> int:
        """Elements that are added to every row."""
        return -self.row % self.size

    @property
    def units(self) -> tuple[int, ...]:
        """How the units lie: at most three dimensions, for what finds structure in them again."""
        leading = self.turned[: -self.depth]
        per_row = (self.row + self.padding) // self.size
        merged = (*leading[:1], *([prod(leading[1:])] if leading[1:] else []))
        return (*merged, per_row) if per_row > 1 or not merged else merged

    @property
    def unit(self) -> tuple[int, ...]:
        """How the elements of a unit lie."""
        if self.size != self.row or self.depth == 1:
            return (self.size,)
        inside = self.turned[-self.depth :]
        return (inside[0], prod(inside[1:]))

    def split(self, array: np.ndarray, fill: object) -> np.ndarray:
        """Return the units of a tensor of this shape, ``[units, size]``, padded by ``fill``."""
        rows = array.transpose(self.order).reshape(-1, self.row)
        if self.padding:
            rows = np.pad(rows, ((0, 0), (0, self.padding)), constant_values=fill)  # type: ignore[call-overload]
        found: np.ndarray = rows.reshape(-1, self.size)
        return found

    def join(self, builder: Builder, units: str, output: str) -> None:
        """Add nodes that make the tensor of its units, in whatever shape those are."""
        if self.padding:
            rows = builder.node("Reshape", [units, builder.ints([-1, self.row + self.padding])])
            units = builder.node("Slice", [rows, builder.ints([0]), builder.ints([self.row]), builder.ints([1])])
        if self.order == tuple(range(len(self.shape))):
            builder.node("Reshape", [units, builder.ints(self.shape)], output=output)
            return
        turned = builder.node("Reshape", [units, builder.ints(self.turned)])
        builder.node("Transpose", [turned], {"perm": np.argsort(self.order).tolist()}, output)


def find_cut(
    kept: np.ndarray, costs: Sequence[Callable[[np.ndarray, int], float]]
) -> tuple[int, Cut, np.ndarray] | None:
    """Return the cheapest way to store what is kept: which cost is least, the cut, and its units, ``[units, size]``.

    None where a position for every weight costs no more.

    Args:
        kept: bool, of any shape.
        costs: bits that units take, all but the values: of a sample, bool ``[units, size]``, and how many there are.
    """
    bits = kept.size * entropy(np.count_nonzero(kept) / max(1, kept.size))
    if bits < 2 * _NODES:
        return None
    rng = np.random.default_rng(0)
    estimates: list[tuple[float, int, Cut]] = []
    for cut in _every_cut(kept.shape):
        sample = _sample(kept, cut, rng)
        estimates += [(cost(sample, prod(cut.units)), kind, cut) for kind, cost in enumerate(costs)]
    least, best = bits - _NODES, None
    for estimate, kind, cut in sorted(estimates, key=lambda item: item[0])[:_LOOKED_AT]:
        if estimate >= least:
            break
        units = cut.split(kept, fill=False)
        exact = costs[kind](units, len(units))
        if exact < least:
            least, best = exact, (kind, cut, units)
    return best


def _every_cut(shape: tuple[int, ...]) -> Iterator[Cut]:
    axes = tuple(range(len(shape)))
    orders = [axes, (*axes[1:], 0), (0, *axes[2:], 1)][: len(axes)]
    for order in orders:
        sizes = [shape[axis] for axis in order]
        kernels = max(1, len(shape) - 2) if order == axes else 1
        row = prod(sizes[-kernels:])
        for size in (*(size for size in _SIZES if size < row), row):
            if size > 1:
                yield Cut(shape, order, kernels, size)
        if order != orders[-1] or len(orders) < 3:  # the last one's rows are the first one's
            yield from (Cut(shape, order, depth, prod(sizes[1:])) for depth in range(kernels + 1, len(axes))[-1:])
        yield from (Cut(shape, order, len(axes), size) for size in _SIZES_ACROSS)


def _sample(kept: np.ndarray, cut: Cut, rng: np.random.Generator) -> np.ndarray:
    """Return some units; all of a cut of which each is a row, that what they have in common is not missed."""
    parts = -(-kept.size // _SAMPLE)
    if parts == 1 or (cut.depth == len(cut.shape) - 1 > 1) or len(cut.shape) == 1:
        return cut.split(kept, fill=False)
    length = cut.turned[0]
    chosen = np.sort(rng.choice(length, -(-length // parts), replace=False))
    rows = kept.transpose(cut.order)[chosen]
    turned = Cut(rows.shape, tuple(range(rows.ndim)), cut.depth, cut.size)
    return turned.split(rows, fill=False)


def entropy(share: float) -> float:
    """Return the bits of one yes or no that is yes so often."""
    return 0.0 if share in (0, 1) else -share * log2(share) - (1 - share) * log2(1 - share)


def count_patterns(units: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distinct rows of bool ``[units, size]``, which of them each unit is, and how many are of each."""
    packed = np.packbits(units, axis=1)
    size = packed.shape[1]
    if size <= 8:  # integers are sorted several times faster than strings of bytes
        packed = np.pad(packed, ((0, 0), (0, 8 - size)))
    kind = np.dtype(np.uint64) if size <= 8 else np.dtype((np.void, size))
    keys = np.ascontiguousarray(packed).view(kind).reshape(-1)
    _, first, index, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    return units[first], index.reshape(-1), counts
