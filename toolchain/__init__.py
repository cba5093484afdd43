"""Compress trained ONNX models: prune, quantize, fine-tune, export, verify, measure.

``from toolchain import compress`` gives the one public verb. It is imported when it is asked for, so that importing
this package stays instant and ``compress --help`` answers at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toolchain.pipeline import CompressResult, compress

__all__ = ["CompressResult", "compress"]


def __getattr__(name: str) -> object:
    """Import the public names on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module("toolchain.pipeline"), name)
    return value
