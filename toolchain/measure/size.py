"""What a model costs on disk and, compressed once more, on the wire."""

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from toolchain.graph import model_files

CHUNK_BYTES = 1 << 20
GZIP_LEVEL = 6  # what gzip and most web servers use
GZIP_WINDOW = 31  # zlib's code for a gzip header around the largest window


def size_section(original: Path, compressed: Path) -> dict[str, int | float]:
    """Return the report's ``size`` section: bytes of both models, external data included, plain and gzipped."""
    before, after = model_files(original), model_files(compressed)
    sizes = file_bytes(before), file_bytes(after)
    zipped = gzip_bytes(before), gzip_bytes(after)
    return {
        "original_bytes": sizes[0],
        "compressed_bytes": sizes[1],
        "ratio": sizes[0] / sizes[1],
        "gzip_original_bytes": zipped[0],
        "gzip_compressed_bytes": zipped[1],
        "gzip_ratio": zipped[0] / zipped[1],
    }


def file_bytes(paths: Sequence[Path]) -> int:
    """Return the bytes of all files together."""
    return sum(path.stat().st_size for path in paths)


def gzip_bytes(paths: Sequence[Path]) -> int:
    """Return the bytes of all files as one gzip stream of level 6; only a chunk is in memory at a time."""
    stream = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, GZIP_WINDOW)
    return sum(len(stream.compress(chunk)) for chunk in _chunks(paths)) + len(stream.flush())


def _chunks(paths: Sequence[Path]) -> Iterator[bytes]:
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
