"""Import trained ONNX models into PyTorch and back, and compress them: prune, quantize, fine-tune, export, measure.

``from toolchain import compress, load, save, inspect``. They are imported when they are asked for, so that importing
this package stays instant and ``compress --help`` answers at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toolchain.inspection import inspect
    from toolchain.persistence import load, save
    from toolchain.pipeline import CompressResult, compress

__all__ = ["CompressResult", "compress", "inspect", "load", "save"]

# No module is called as what it offers: it would take the name once it is imported.
_MODULES = {
    "CompressResult": "toolchain.pipeline",
    "compress": "toolchain.pipeline",
    "inspect": "toolchain.inspection",
    "load": "toolchain.persistence",
    "save": "toolchain.persistence",
}


def __getattr__(name: str) -> object:
    """Import the public names on first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_MODULES[name]), name)
    return value
