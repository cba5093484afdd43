"""Compresses in a process of its own, which a test may kill. A module, as the process imports what it runs."""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch

from toolchain import checkpoint, pipeline


def compress_often_kept(model: Path, output: Path, options: dict[str, Any]) -> None:
    """Compress on one thread, with about half of the time spent in writing checkpoints."""
    tempfile.tempdir = str(output.parent)  # what a killed process leaves goes with the test's folder
    torch.set_num_threads(1)
    checkpoint.INTERVAL_S = 0.0
    checkpoint.COST = 0.5
    pipeline.measure_latency = partial(pipeline.measure_latency, seconds=0.1)
    pipeline.compress(model, output=output, device="cpu", **options)
