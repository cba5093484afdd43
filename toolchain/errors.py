"""Errors that a user can act on; the command line prints them as ``error:`` and ``hint:`` and exits 1."""

import difflib
from collections.abc import Iterable


class ToolchainError(Exception):
    """What failed, where, and got against expected; ``hint`` says what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ModelError(ToolchainError):
    """The ONNX model cannot be read, is invalid, or uses something that is not supported."""


class DataError(ToolchainError):
    """The data do not fit the model or cannot be read."""


class RecipeError(ToolchainError):
    """A target, pattern or option cannot be resolved against this model."""


class TrainingError(ToolchainError):
    """Training met a value from which it cannot go on."""


class CheckpointError(ToolchainError):
    """The checkpoint is damaged, or of another run."""


class ExportError(ToolchainError):
    """The compressed file cannot be written, or ONNX Runtime disagrees with it."""


class ReportError(ToolchainError):
    """A report cannot be read, or does not follow the report's schema."""


class BenchError(ToolchainError):
    """Models cannot be measured as asked, or figures cannot be compared with earlier ones."""


class HostError(ToolchainError):
    """A device cannot be reached, lacks what measuring there needs, or went away."""


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """Return ``"did you mean a, b?"`` for the names most like ``name``, or the first few known ones."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=count, cutoff=0.4)
    if close:
        return f"did you mean {', '.join(close)}?"
    return f"known: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"
