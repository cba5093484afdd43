"""Every value, one after the other."""

from toolchain.export.builder import Builder
from toolchain.export.encodings.content import Content


def encode(builder: Builder, content: Content, output: str) -> bool:
    """Add an initializer; the runtime reads it without decoding."""
    builder.tensor(content.array, output)
    return True
