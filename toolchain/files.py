"""Files as they lie on disk: their bytes, plain and gzipped, and their digests."""

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

CHUNK_BYTES = 1 << 20
GZIP_LEVEL = 6  # what gzip and most web servers use
GZIP_WINDOW = 31  # zlib's code for a gzip header around the largest window


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


def sha256(path: Path) -> str:
    """Return the file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
