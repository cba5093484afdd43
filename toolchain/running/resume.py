"""Whether a run can go on from a checkpoint, and what it must have in common with the one that wrote it."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from calibration.data import Dataset
from toolchain.checkpoint import check_checkpoint
from toolchain.errors import CheckpointError
from toolchain.files import sha256
from toolchain.graph import model_files
from toolchain.measure.report import DISTRIBUTION
from toolchain.planning.plan import Plan
from toolchain.running.workload import Workload

HASHED_ROWS = 1024  # at a time, so that samples that are mapped from a file stay there


def can_resume(checkpoint: Path, output: Path, resume: bool, tell: Callable[[str], None]) -> bool:
    """Return whether to go on from ``checkpoint``; told is what happens to it, or that it is not there.

    Args:
        checkpoint: where it would be.
        output: what the run writes at its end, when the checkpoint goes.
        resume: whether it was asked for.
        tell: takes sentences for the user.

    Raises:
        CheckpointError: the run has finished, or the file is damaged or no checkpoint.
    """
    if checkpoint.exists():
        check_checkpoint(checkpoint)
        if not resume:
            tell(f"{checkpoint}, of a run that was interrupted, is overwritten; --resume would have gone on from it")
        return resume
    if resume and output.exists():
        raise CheckpointError(
            f"there is nothing to resume: {output} is there, and no {checkpoint} beside it",
            hint="a run that finishes removes its checkpoint; leave --resume out to compress again",
        )
    if resume:
        tell(f"there is no {checkpoint} to resume: beginning from the start")
    return False


def identify(model: Path, plan: Plan, workload: Workload) -> dict[str, Any]:
    """Return, as JSON values, everything that decides the result of a run.

    Raises:
        ModelError: the model cannot be read.
    """
    parts = workload.split
    steps = {"prune": plan.prune, "quantize": plan.quantize}
    options = {name: value for name, value in asdict(plan).items() if name != "steps"}
    return {
        "version": version(DISTRIBUTION),
        "model": {file.name: sha256(file) for file in model_files(model)},
        "data": {
            "training": _digest(parts.train),
            "selection": _digest(parts.selection),
            "evaluation": _digest(parts.evaluation),
            "preprocessing": parts.train.preprocessing.to_json(),
            "labels of output": workload.classes,
        },
        "plan": {**{name: step and asdict(step) for name, step in steps.items()}, **options},
    }


def _digest(data: Dataset) -> str:
    """Return a hash of the samples; the seed in the plan says which those are that were synthesised."""
    if data.kind == "synthetic":
        return "synthetic"
    labels = {} if data.labels is None else {"labels": data.labels}
    digest = hashlib.sha256()
    for arrays in (data.inputs, labels):
        for name, array in arrays.items():
            digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
            for start in range(0, len(array), HASHED_ROWS):
                digest.update(np.ascontiguousarray(array[start : start + HASHED_ROWS]).data)
    return digest.hexdigest()
