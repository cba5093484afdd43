"""Opens and runs ONNX Runtime sessions."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort

from toolchain.bench import probe
from toolchain.bench.explain import failure
from toolchain.errors import ExportError


def open_session(path: Path, provider: str = probe.CPU, threads: int | None = None) -> ort.InferenceSession:
    """Return a session of the model file on ``provider``, with the runtime's default optimizations.

    Args:
        path: the ``.onnx`` file.
        provider: execution provider; operators it lacks run on the CPU.
        threads: threads of one operator; None takes every core this process may use.

    Raises:
        ExportError: the runtime rejects the file, or does not start the provider.
    """
    case = probe.Case("", (), threads=threads or 0, provider=provider)
    objection = probe.objection(case)
    if objection is not None:
        raise ExportError(objection)
    try:
        return probe.open_session(str(path), case)
    except Exception as error:  # onnxruntime's errors have no common base class
        found = {"stage": "load", "message": str(error)}
        raise ExportError(failure(str(path), found, provider)) from error


def run_session(session: ort.InferenceSession, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the outputs of one run by name.

    Raises:
        ExportError: the feeds do not fit the model, or an operator fails.
    """
    names = [output.name for output in session.get_outputs()]
    try:
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))
    except Exception as error:  # as above
        shapes = ", ".join(f"{name}{list(array.shape)}" for name, array in feeds.items())
        raise ExportError(f"ONNX Runtime cannot run the model on {shapes}: {error}") from error
