"""ONNX Runtime sessions on the CPU, and interleaved timing of several of them."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from toolchain.errors import ExportError

CPU = "CPUExecutionProvider"

_PATIENCE = 3  # times the seconds asked for that a slow model may take beyond them


def open_session(
    model: onnx.ModelProto | Path | bytes, threads: int, optimized: Path | None = None, provider: str = CPU
) -> onnxruntime.InferenceSession:
    """Load a model, on the CPU where nothing else is asked for.

    Args:
        model: a proto, its bytes, or the path of a file.
        threads: intra-op threads; 0 for as many as ONNX Runtime takes by itself.
        optimized: where to write the graph that the session executes, its large constants beside it.
        provider: that the model runs on; nodes that it does not have run on the CPU.

    Raises:
        ExportError: the session does not load it.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    if optimized is not None:
        options.optimized_model_filepath = os.fspath(optimized)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "constants.bin")
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    source: str | bytes
    if isinstance(model, onnx.ModelProto):
        source = model.SerializeToString()
    else:
        source = model if isinstance(model, bytes) else os.fspath(model)
    try:
        return onnxruntime.InferenceSession(source, options, providers=list(dict.fromkeys((provider, CPU))))
    except Exception as error:  # onnxruntime's errors have no common base class
        raise ExportError(f"ONNX Runtime does not load the exported model: {error}") from error


def run_outputs(
    session: onnxruntime.InferenceSession, names: Sequence[str], feeds: Mapping[str, np.ndarray]
) -> list[np.ndarray]:
    """Return the outputs ``names`` of one run; feeds that the model does not take are left out.

    Raises:
        ExportError: the session does not run.
    """
    wanted = {value.name for value in session.get_inputs()}
    try:
        outputs: list[np.ndarray] = session.run(names, {name: feeds[name] for name in feeds if name in wanted})
    except Exception as error:  # onnxruntime's errors have no common base class
        raise ExportError(f"the exported model does not run in ONNX Runtime: {error}") from error
    return outputs


def time_interleaved(
    sessions: Sequence[onnxruntime.InferenceSession], feeds: Mapping[str, np.ndarray], seconds: float
) -> list[float]:
    """Return the time of one run of every session in milliseconds: the lower quartile, which neighbours disturb least.

    The sessions take turns in random order, so that a change of the machine's speed meets all of them, and none always
    finds the caches as the same other one leaves them; at least 7 turns, or 3 of slow models; at most 200.

    Args:
        sessions: of models with the same inputs.
        feeds: what every run is fed.
        seconds: after which no further turn begins.
    """
    for session in sessions:
        session.run(None, feeds)
    times: list[list[float]] = [[] for _ in sessions]
    order = np.random.default_rng(0)
    until = time.perf_counter() + seconds
    for turn in range(200):
        over = time.perf_counter() - until
        if (turn >= 7 and over > 0) or (turn >= 3 and over > _PATIENCE * seconds):
            break
        for index in order.permutation(len(sessions)):
            start = time.perf_counter()
            sessions[index].run(None, feeds)
            times[index].append(time.perf_counter() - start)
    return [float(np.quantile(found, 0.25)) * 1e3 for found in times]
