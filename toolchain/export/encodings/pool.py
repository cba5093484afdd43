"""Many small tensors in one bit vector, decoded once for all of them: a small network is mostly decode nodes else.

Tensors of one kind lie one after the other. Of *sparse* ones the bit vector holds the steps and low
bits of ``positions``, for each Rice parameter that is used, and the codes of what is kept; of *dense* ones the codes of
all elements. Every further parameter takes a few nodes more, so how many there are is chosen by bytes. Scales and
biases are dense tensors of 16 bits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, groupby
from math import inf

import numpy as np
from onnx import TensorProto

from toolchain.export.builder import Builder, make_node
from toolchain.export.encodings import bits, half, levels, positions
from toolchain.export.encodings.content import Content

# What is decoded of a tensor, elements or bits of positions, above which a few hundred bytes do not matter.
LARGEST = 1 << 20

# What a decoder takes without its bits: so much longer codes may be for having one less.
_DECODER_BYTES = 500
# Rice parameters; the bytes that another one in the same bit vector takes in nodes; how many are tried together.
_PARAMETERS = tuple(range(9))
_PARAMETER_BYTES = (60, *[260] * 8)
_MOST_PARAMETERS = 3
# Elements of all tensors that are decoded together, which bounds the memory that this takes at load.
_TOGETHER = 1 << 22
# Elements of all tensors above which each is made float32 by itself: a node each, but less memory at load.
_CAST_TOGETHER = 1 << 20
# What is left to do for each tensor: a Reshape, its shape, and an entry of Split; for a vector only that. Tensors with
# the same rows share the first two, and take less than is said here.
_TENSOR_BYTES = 40
_VECTOR_BYTES = 8
# Tensors with the same rows from which one Reshape and a Split for all are smaller than a Reshape for each.
_LEAST_ALIKE = 3


@dataclass(frozen=True, eq=False)
class Pooled:
    """One tensor, in the order in which it takes the fewest bits.

    Attributes:
        content: int8 or uint8 and of at most 128 levels, or float32.
        turned: whether the first dimension is stored last.
        index: where, in the stored order, it is not the background; None for a dense tensor.
        kept: the values that have a code, or are stored as they are, float32 or float16.
        bits: of the positions, by Rice parameter; empty for a dense tensor.
    """

    content: Content
    turned: bool
    index: np.ndarray | None
    kept: np.ndarray
    bits: tuple[int, ...]

    @cached_property
    def levels(self) -> frozenset[int]:
        """The levels of the kept values, a single one without bits; empty where those are stored as they are."""
        return frozenset(levels.find_levels(self.kept).tolist()) if self.kept.itemsize == 1 else frozenset()

    @property
    def width(self) -> int:
        """Bits per kept value."""
        return levels.code_width(len(self.levels)) if self.levels else 8 * self.kept.itemsize

    @property
    def bytes(self) -> int:
        """What it takes in the pool, the decoder excluded."""
        extra = positions.TRANSPOSE_BYTES if self.turned else 0
        extra += _TENSOR_BYTES if self.content.array.ndim > 1 else _VECTOR_BYTES
        return extra + (min(self.bits, default=0) + self.width * self.kept.size + 7) // 8

    @property
    def kind(self) -> tuple[object, ...]:
        """What tensors that are decoded together have in common."""
        content = self.content
        return content.array.dtype.name, content.background, self.index is None, self.kept.dtype.name

    @property
    def shape(self) -> tuple[int, ...]:
        """The dimensions in the stored order."""
        shape = self.content.array.shape
        return (*shape[1:], shape[0]) if self.turned else shape

    @property
    def row(self) -> tuple[int, ...]:
        """The dimensions behind the first; empty for a vector, and for what has the first stored last."""
        return () if self.turned else self.shape[1:]


def prepare(content: Content) -> Pooled | None:
    """Return how a tensor would be stored in a pool; None where it is large, constant, or has too many levels."""
    array = content.array
    if not 1 < array.size <= _TOGETHER:
        return None
    orders = [_sparse(content, turned) for turned in ((False, True) if array.ndim > 1 else (False,))]
    found = [item for item in orders if item is not None and min(item.bits) <= LARGEST]
    if array.dtype == np.float32:
        if array.size <= LARGEST and half.is_half(array):
            found.append(Pooled(content, False, None, array.astype(np.float16).reshape(-1), ()))
    else:
        count = levels.find_levels(array.reshape(-1)).size
        if not 1 < count <= 128:
            return None
        if array.size <= LARGEST:
            found.append(Pooled(content, False, None, array.reshape(-1), ()))
    return min(found, key=lambda item: item.bytes, default=None)


def _sparse(content: Content, turned: bool) -> Pooled | None:
    flat = np.ascontiguousarray(np.moveaxis(content.array, 0, -1) if turned else content.array).reshape(-1)
    index = np.flatnonzero(content.kept(flat))
    if not index.size:
        return None
    below = np.diff(index, prepend=-1) - 1
    sizes = [index.size * (1 + parameter) + int((below >> parameter).sum()) for parameter in _PARAMETERS]
    return Pooled(content, turned, index, flat[index], (flat.size, *sizes[1:]))


def divide(pooled: Mapping[str, Pooled]) -> list[dict[str, Pooled]]:
    """Return what is decoded together: tensors of one kind, not too many, and of levels that fit together."""
    found: list[dict[str, Pooled]] = []
    for name, item in sorted(pooled.items(), key=lambda entry: -entry[1].width):
        fitting = [(_extra_bytes(group, item), number) for number, group in enumerate(found)]
        extra, number = min(fitting, default=(inf, 0))
        if extra < _DECODER_BYTES:
            found[number][name] = item
        else:
            found.append({name: item})
    return found


def _extra_bytes(group: Mapping[str, Pooled], item: Pooled) -> float:
    """Return by how much the codes grow when a tensor joins others, infinite where it cannot."""
    members = list(group.values())
    elements = sum(member.content.array.size for member in members)
    if members[0].kind != item.kind or elements + item.content.array.size > _TOGETHER:
        return inf
    if not item.levels:
        return 0
    before = frozenset().union(*(member.levels for member in members))
    width, kept = levels.code_width(len(before)), sum(member.kept.size for member in members)
    joined = levels.code_width(len(before | item.levels))
    return ((joined - width) * kept + (joined - item.width) * item.kept.size) / 8


def encode(builder: Builder, pooled: Mapping[str, Pooled], opset: int) -> None:
    """Add what rebuilds tensors, all of one kind, under the names that they have in ``pooled``."""
    first = next(iter(pooled.values()))
    groups = {-1: list(pooled)} if first.index is None else _choose_parameters(pooled)
    groups = {parameter: sorted(names, key=lambda name: pooled[name].row) for parameter, names in groups.items()}
    order = {name: pooled[name] for names in groups.values() for name in names}
    kept = np.concatenate([item.kept for item in order.values()])
    if first.index is None:
        values = _values(builder, kept, *_unpack(builder, _codes(kept), opset))
    else:
        values = _encode_sparse(builder, groups, order, kept, opset)
    sizes = [item.content.array.size for item in order.values()]
    casts = {name for name, item in order.items() if item.content.floats or kept.dtype == np.float16}
    if len(casts) == len(order) and sum(sizes) <= _CAST_TOGETHER:
        values, casts = builder.cast(values, TensorProto.FLOAT), set()
    targets = {name: builder.fresh() if name in casts else name for name in order}
    parts = _parts(order)
    lengths = [sum(order[name].content.array.size for name in part) for part in parts]
    vectors = [targets[part[0]] if order[part[0]].content.array.ndim == 1 else "" for part in parts]
    flats = _split(builder, values, lengths, opset, vectors)
    for part, flat, vector in zip(parts, flats, vectors, strict=True):
        if len(part) > 1:
            _divide_rows(builder, [order[name] for name in part], flat, [targets[name] for name in part], opset)
        elif not vector:
            _reshape(builder, order[part[0]], flat, targets[part[0]])
    for name, target in targets.items():
        if name in casts:
            builder.cast(target, TensorProto.FLOAT, name)


def _parts(order: Mapping[str, Pooled]) -> list[list[str]]:
    """Return the tensors as they are cut off the vector: one by one, but as many at once as have the same rows."""
    parts: list[list[str]] = []
    for row, names in groupby(order, key=lambda name: order[name].row):
        same = list(names)
        parts += [same] if row and len(same) >= _LEAST_ALIKE else [[name] for name in same]
    return parts


def _divide_rows(builder: Builder, items: Sequence[Pooled], flat: str, outputs: Sequence[str], opset: int) -> None:
    """Add what makes of a vector tensors with the same rows: one Reshape for all instead of one for each."""
    counts = [item.shape[0] for item in items]
    rows = builder.node("Reshape", [flat, builder.ints([sum(counts), *items[0].row])])
    _split(builder, rows, counts, opset, outputs)


def _reshape(builder: Builder, item: Pooled, flat: str, output: str) -> None:
    """Add what gives a decoded tensor its dimensions, in their order."""
    shape = builder.ints(item.shape)
    if item.turned:
        axes = range(len(item.shape))
        stored = builder.node("Reshape", [flat, shape])
        builder.node("Transpose", [stored], {"perm": [axes[-1], *axes[:-1]]}, output)
    else:
        builder.node("Reshape", [flat, shape], output=output)


def _choose_parameters(pooled: Mapping[str, Pooled]) -> dict[int, list[str]]:
    """Return which tensors are stored by which Rice parameter, the fewest bytes in all."""
    sizes = np.array([item.bits for item in pooled.values()])

    def cost(chosen: tuple[int, ...]) -> float:
        return float(sizes[:, chosen].min(1).sum()) / 8 + sum(_PARAMETER_BYTES[parameter] for parameter in chosen)

    every = [item for count in range(1, _MOST_PARAMETERS + 1) for item in combinations(_PARAMETERS, count)]
    best = min(every, key=cost)
    groups: dict[int, list[str]] = {}
    for name, place in zip(pooled, sizes[:, best].argmin(1), strict=True):
        groups.setdefault(best[place], []).append(name)
    return groups


def _encode_sparse(
    builder: Builder, groups: Mapping[int, Sequence[str]], order: Mapping[str, Pooled], kept: np.ndarray, opset: int
) -> str:
    """Add nodes that make one vector of all tensors, in the given order."""
    content = next(iter(order.values())).content
    sizes = [sum(order[name].content.array.size for name in names) for names in groups.values()]
    gaps = [
        positions.steps(_joined_index([order[name] for name in names]), parameter, size)
        for (parameter, names), size in zip(groups.items(), sizes, strict=True)
    ]
    counts = [stream.size for stream, _ in gaps]
    fields = [np.concatenate([stream for stream, _ in gaps])]
    fields += [
        bits.split_planes(low, parameter).reshape(-1)
        for parameter, (_, low) in zip(groups, gaps, strict=True)
        if parameter
    ]
    codes = _codes(kept)
    stream, *others = _unpack(builder, [*fields, *codes], opset)
    lows = iter(others)
    step = builder.cast(stream, TensorProto.INT32)
    is_single = not codes and kept.itemsize == 1  # a single level: the steps are its places in the table
    index = step if is_single else positions.number_kept(builder, step)
    numbers = (
        [index]
        if len(groups) == 1 and not is_single
        else [
            positions.number_kept(builder, part) if parameter else ""
            for parameter, part in zip(groups, _split(builder, step, counts, opset), strict=True)
        ]
    )
    low_parts = [
        bits.join_planes(builder, next(lows), low.size, parameter) if parameter else ""
        for parameter, (_, low) in zip(groups, gaps, strict=True)
    ]
    table = (
        builder.constant(np.concatenate([content.fill, kept[:1]]))
        if is_single
        else builder.node("Concat", [builder.constant(content.fill), _values(builder, kept, *lows)], {"axis": 0})
    )
    values = _split(builder, builder.node("Gather", [table, index]), counts, opset)
    flats = [
        positions.scatter(builder, content, size, decoded) if decoded[2] else decoded[0]
        for size, decoded in zip(sizes, zip(values, numbers, low_parts, strict=True), strict=True)
    ]
    return flats[0] if len(flats) == 1 else builder.node("Concat", flats, {"axis": 0})


def _joined_index(tensors: Sequence[Pooled]) -> np.ndarray:
    """Return the kept positions of some sparse tensors that lie one after the other."""
    starts = np.cumsum([0, *(item.content.array.size for item in tensors[:-1])])
    return np.concatenate(
        [start + item.index for start, item in zip(starts, tensors, strict=True) if item.index is not None]
    )


def _codes(kept: np.ndarray) -> list[np.ndarray]:
    """Return the bits of the codes of the kept values, or nothing where those are floats or all the same."""
    found = levels.find_levels(kept) if kept.itemsize == 1 else kept[:1]
    if found.size == 1:
        return []
    return [bits.split_planes(levels.find_codes(kept, found), levels.code_width(found.size)).reshape(-1)]


def _values(builder: Builder, kept: np.ndarray, codes: str = "") -> str:
    """Add what makes the kept values of the bits of their codes."""
    if not codes:
        return builder.tensor(kept)
    found = levels.find_levels(kept)
    return builder.node(
        "Gather", [builder.constant(found), bits.join_planes(builder, codes, kept.size, levels.code_width(found.size))]
    )


def _unpack(builder: Builder, fields: Sequence[np.ndarray], opset: int) -> list[str]:
    """Add nodes that unpack fields of bits: uint8 0 or 1 each."""
    if not fields:
        return []
    packed = np.packbits(np.concatenate(fields), bitorder="little").reshape(-1, 1)
    value = builder.node(
        "BitShift", [builder.tensor(packed), builder.constant(np.arange(8, dtype=np.uint8))], {"direction": "RIGHT"}
    )
    value = builder.node("Mod", [value, builder.constant(np.array(2, np.uint8))])
    value = builder.node("Reshape", [value, builder.ints([8 * packed.size])])
    sizes = [field.size for field in fields]
    rest = 8 * packed.size - sum(sizes)
    return _split(builder, value, [*sizes, *([rest] if rest else [])], opset)[: len(fields)]


def _split(
    builder: Builder, value: str, sizes: Sequence[int], opset: int, names: Sequence[str] | None = None
) -> list[str]:
    """Add a node that divides the first axis, where there is something to divide; some parts may have names already."""
    if len(sizes) == 1:
        return [builder.node("Identity", [value], output=names[0]) if names and names[0] else value]
    parts = [name or builder.fresh() for name in names or [""] * len(sizes)]
    if opset < 13:  # the sizes were an attribute
        builder.nodes.append(make_node("Split", [value], parts, {"split": list(sizes)}))
    else:
        builder.nodes.append(make_node("Split", [value, builder.ints(sizes)], parts))
    return parts
