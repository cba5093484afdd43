"""Encodings: how a tensor is stored in the file, each able to rebuild it bit for bit when a session loads."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from toolchain.errors import ExportError
from toolchain.export.builder import Builder
from toolchain.export.encodings import codes, dense, positions, shared, sparse, trimmed
from toolchain.export.encodings.content import Content

__all__ = ["ENCODINGS", "Content", "Encoding", "encode_smallest"]


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
    opset = max(trimmed.OPSET, builder.function_opset)
    return trimmed.encode(builder, content, output, partial(encode_smallest, opset=opset))


# Smallest first in the usual case; of equal sizes the earlier wins.
ENCODINGS = (
    Encoding("packed", positions.encode, opset=11),
    Encoding("packed", shared.encode, opset=13),
    Encoding("packed", _encode_trimmed, opset=trimmed.OPSET),
    Encoding("packed", codes.encode, opset=11, least_bits=1),
    Encoding("sparse_initializer", sparse.encode, opset=7),
    Encoding("dense", dense.encode, opset=7, least_bits=8),
)


def encode_smallest(builder: Builder, content: Content, output: str, opset: int) -> str:
    """Add ``content`` under the name ``output`` by the encoding that takes the fewest bytes, and return its name.

    Raises:
        ExportError: the element type is none of float32, int8 and uint8.
    """
    if content.array.dtype.name not in ("float32", "int8", "uint8"):
        raise ExportError(f"{output}: a {content.array.dtype} tensor cannot be encoded, only float32, int8 and uint8")
    best: tuple[Builder, str] | None = None
    for encoding in ENCODINGS:
        if encoding.opset > opset:
            continue
        if best is not None and 8 * best[0].bytes <= encoding.least_bits * content.array.size:
            continue  # it cannot win, and a large tensor takes its time
        child = builder.fork()
        if encoding.encode(child, content, output) and (best is None or child.bytes < best[0].bytes):
            best = child, encoding.name
    if best is None:
        raise ExportError(f"{output}: no encoding can hold a {content.array.dtype} tensor")
    builder.absorb(best[0])
    return best[1]
