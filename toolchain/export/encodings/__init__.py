"""Encodings: how a tensor is stored in the file, each able to rebuild it bit for bit when a session loads."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from onnx import TensorProto

from toolchain.errors import ExportError
from toolchain.export.builder import Builder
from toolchain.export.encodings import codes, dense, half, lanes, pool, positions, sparse, trimmed, units
from toolchain.export.encodings.content import Content

__all__ = [
    "ENCODINGS",
    "PACKED_OPSET",
    "Content",
    "Encoding",
    "encode_extra",
    "encode_pending",
    "encode_smallest",
    "lanes",
    "units",
]

# The first ai.onnx version that has all operators of the decoders of packed tensors, CumSum among them.
PACKED_OPSET = 11


@dataclass(frozen=True)
class Encoding:
    """One way to store a tensor.

    Attributes:
        name: as the report says it.
        encode: adds what rebuilds the content under an output name; False where it cannot hold the content.
        opset: the first ai.onnx version that has all operators of its decoder.
        least_bits: per element, that it takes of any tensor that is not constant; 0 where there is no such bound.
    """

    name: str
    encode: Callable[[Builder, Content, str], bool]
    opset: int
    least_bits: int = 0


def _encode_trimmed(builder: Builder, content: Content, output: str) -> bool:
    return trimmed.encode(builder, content, output, partial(encode_smallest, opset=PACKED_OPSET))


def _encode_units(builder: Builder, content: Content, output: str) -> bool:
    return units.encode(builder, content, output, partial(encode_smallest, opset=PACKED_OPSET))


# Smallest first in the usual case; of equal sizes the earlier wins.
ENCODINGS = (
    Encoding("packed", positions.encode, PACKED_OPSET),
    Encoding("packed", _encode_trimmed, PACKED_OPSET),
    Encoding("packed", _encode_units, PACKED_OPSET),
    Encoding("packed", codes.encode, PACKED_OPSET, least_bits=1),
    Encoding("sparse_initializer", sparse.encode, opset=7),
    Encoding("dense", half.encode, opset=0, least_bits=16),
    Encoding("dense", dense.encode, opset=0, least_bits=8),
)


def encode_smallest(builder: Builder, content: Content, output: str, opset: int) -> str:
    """Add ``content`` under the name ``output`` by the encoding that takes the fewest bytes, and return its name.

    Where the builder has a pool, a small tensor may be left pending until ``encode_pending``.

    Raises:
        ExportError: the element type is none of float32, int8 and uint8.
    """
    if content.array.dtype.name not in ("float32", "int8", "uint8"):
        raise ExportError(f"{output}: a {content.array.dtype} tensor cannot be encoded, only float32, int8 and uint8")
    child, name = _encode_alone(builder, content, output, opset)
    pooled = pool.prepare(content) if builder.pools and opset >= PACKED_OPSET else None
    if pooled is not None and pooled.bytes < child.bytes:
        builder.pending[output] = pooled
        return "packed"
    builder.absorb(child)
    return name


def encode_extra(builder: Builder, content: Content, output: str) -> str:
    """Add what belongs to no format, such as a scale or a bias: packed where the builder has a pool, else as it is.

    A builder has a pool only where the file's opset can decode packed tensors.

    Raises:
        ExportError: the element type is none of float32, int8 and uint8.
    """
    return encode_smallest(builder, content, output, PACKED_OPSET if builder.pools else 0)


def _encode_alone(builder: Builder, content: Content, output: str, opset: int) -> tuple[Builder, str]:
    """Return a fork of the builder with the content in the smallest encoding, and the encoding's name."""
    if content.floats and content.array.itemsize == 1:
        value = builder.fresh()
        child, name = _encode_alone(builder, replace(content, floats=False), value, opset)
        child.cast(value, TensorProto.FLOAT, output)
        return child, name
    best: tuple[Builder, str] | None = None
    newest = opset if builder.packs else 0  # that of what needs no decoder
    for encoding in ENCODINGS:
        if encoding.opset > newest or encoding.name in builder.without:
            continue
        if best is not None and 8 * best[0].bytes <= encoding.least_bits * content.array.size:
            continue  # it cannot win, and a large tensor takes its time
        child = builder.fork()
        if encoding.encode(child, content, output) and (best is None or child.bytes < best[0].bytes):
            best = child, encoding.name
    if best is None:
        raise ExportError(f"{output}: no encoding can hold a {content.array.dtype} tensor")
    return best


def encode_pending(builder: Builder, opset: int) -> dict[str, float]:
    """Add all tensors that were left pending, before everything else, together where that is smaller.

    Returns:
        The bytes that each takes, by the name of its value; those of what several share in proportion.
    """
    pending, builder.pending = builder.pending, {}
    nodes, builder.nodes = builder.nodes, []
    taken: dict[str, float] = {}
    for group in pool.divide(pending):
        together, alone = builder.fork(), builder.fork()
        together.pools = alone.pools = False
        pool.encode(together, group, opset)
        for name, item in group.items():
            encode_smallest(alone, item.content, name, opset)
        best = min(together, alone, key=lambda child: child.bytes)
        builder.absorb(best)
        whole = sum(item.bytes for item in group.values())
        taken |= {name: best.bytes * item.bytes / whole for name, item in group.items()}
    builder.nodes += nodes
    return taken
