"""What a model costs on disk and, compressed once more, on the wire."""

from pathlib import Path

from toolchain.files import file_bytes, gzip_bytes
from toolchain.graph import model_files


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
