"""Opens and runs ONNX Runtime sessions; the one place that knows how the runtime reports failure."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as state

from toolchain.errors import ExportError

CPU = "CPUExecutionProvider"

# What the runtime raises; its own types derive from Exception directly.
RUNTIME_ERRORS = (
    state.EPFail,
    state.EngineError,
    state.Fail,
    state.InvalidArgument,
    state.InvalidGraph,
    state.InvalidProtobuf,
    state.NoSuchFile,
    state.NotImplemented,
    state.RuntimeException,
    RuntimeError,
    ValueError,
)


def available_cores() -> int:
    """Return how many cores this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def open_session(path: Path, provider: str = CPU, threads: int | None = None) -> ort.InferenceSession:
    """Return a session of the model file on ``provider``, with the runtime's default optimizations.

    Args:
        path: the ``.onnx`` file.
        provider: execution provider; operators it lacks run on the CPU.
        threads: threads of one operator; None takes every core this process may use.

    Raises:
        ExportError: the runtime rejects the file, or does not start the provider.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or available_cores()
    options.log_severity_level = 3  # errors; warnings about single nodes are not for the user of a report
    # Idle workers of one session would otherwise spin on the cores while the other session is timed.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if provider not in ort.get_available_providers():
        raise ExportError(
            f"the installed onnxruntime does not offer {provider}, it offers {', '.join(ort.get_available_providers())}"
        )
    try:
        session = ort.InferenceSession(path, options, providers=list(dict.fromkeys((provider, CPU))), enable_fallback=0)
    except RUNTIME_ERRORS as error:
        raise ExportError(f"ONNX Runtime cannot load {path} on {provider}: {error}") from error
    if session.get_providers()[0] != provider:  # libraries that are missing make the runtime go on without it
        raise ExportError(f"ONNX Runtime offers {provider} but did not start it, its libraries may be missing")
    return session


def run_session(session: ort.InferenceSession, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the outputs of one run by name.

    Raises:
        ExportError: the feeds do not fit the model, or an operator fails.
    """
    names = [output.name for output in session.get_outputs()]
    try:
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))
    except RUNTIME_ERRORS as error:
        shapes = ", ".join(f"{name}{list(array.shape)}" for name, array in feeds.items())
        raise ExportError(f"ONNX Runtime cannot run the model on {shapes}: {error}") from error
