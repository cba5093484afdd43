"""Latency of the original and the compressed file on this machine, as the report has it."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort

from calibration.dataset import Batch
from toolchain.bench import probe
from toolchain.bench.inputs import Prepared
from toolchain.bench.measurement import Settings, host_cases, make_job
from toolchain.bench.rows import HERE, latency_rows
from toolchain.errors import ExportError

PROVIDERS = (probe.CPU, "CUDAExecutionProvider", "TensorrtExecutionProvider")


def measure_latency(
    original: Path,
    compressed: Path,
    batch: Batch,
    threads: int | None = None,
    seconds: float = 6.0,
    providers: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Return one row of the report's ``latency`` section per execution provider.

    Both files run in turns in one process of their own, on the same batch. A time is from numpy arrays in host memory
    to numpy arrays in host memory, so on a GPU it includes the copies. ``speedup`` is the ratio of the medians.

    Args:
        original: the model before.
        compressed: the model after; takes the same inputs.
        batch: the samples of one run.
        threads: threads of one operator; None takes every core this process may use.
        seconds: about how long to measure per provider; a slow model takes the time of a few runs at least.
        providers: execution providers; None takes the CPU, and CUDA and TensorRT where the runtime offers them.

    Raises:
        ExportError: a file does not run on the CPU. Another provider that fails has ``error`` in its row instead.
    """
    offered = ort.get_available_providers()
    settings = Settings(
        threads=(threads or 0,),
        providers=providers or [name for name in PROVIDERS if name in offered],
        seconds=seconds,
        profile=True,
    )
    prepared = [Prepared(len(batch), batch.feeds, ())]
    with tempfile.TemporaryDirectory(prefix="compress-latency-") as name:
        job = make_job((original, compressed), settings, prepared, Path(name))
        result = probe.run(job, Path(name), lambda _what, _done: None)
    rows = latency_rows(host_cases(HERE, result))
    for row in rows:
        if "error" in row and row["provider"] == probe.CPU:
            shapes = ", ".join(f"{name}{list(array.shape)}" for name, array in batch.feeds.items())
            raise ExportError(f"{row['error']} (fed with {shapes})")
    return rows
