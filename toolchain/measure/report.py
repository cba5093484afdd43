"""The report: one JSON document, from which the terminal text and the page are made."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from toolchain.files import sha256
from toolchain.graph import write_atomically
from toolchain.measure.environment import environment_section
from toolchain.measure.schema import REPORT_SCHEMA, validate_report
from toolchain.measure.verdict import verdict_section

DISTRIBUTION = "onnx-compress"

# Of a list that holds nothing but numbers, which reads better on one line; a string cannot hold the line break.
_NUMBERS = re.compile(r"\[\n([^\[\]{}\"]*?)\s*\]")


@dataclass(frozen=True)
class Measurements:
    """Everything that one run found out.

    Attributes:
        original: the input file.
        compressed: the output file.
        plan: the resolved steps, each with a sentence ``says``.
        seed: of the run.
        size: from ``size_section``.
        weights: from ``weights_section``.
        quality: from ``quality_section``.
        latency: from ``measure_latency``.
        parity: ``{judged, max_abs_error, tolerance, outputs, tensors}``.
        timings: seconds by stage.
        convergence: the passes' log in order, ``{phase, step, primal, dual, loss, kept, ...}``, without what a phase
            does not have.
        phases: how long each phase trained, against what was planned for it.
        notes: sentences for the reader, such as which data were held out.
        trials: from ``try_alternatives``.
    """

    original: Path
    compressed: Path
    plan: Sequence[Mapping[str, Any]]
    seed: int
    size: Mapping[str, Any]
    weights: Mapping[str, Any]
    quality: Mapping[str, Any]
    latency: Sequence[Mapping[str, Any]]
    parity: Mapping[str, Any]
    timings: Mapping[str, float]
    convergence: Sequence[Mapping[str, Any]] = ()
    phases: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[str] = ()
    trials: Sequence[Mapping[str, Any]] = ()


def build_report(measured: Measurements) -> dict[str, Any]:
    """Return the report document: plain JSON types, the verdict drawn, the environment noted, the schema checked.

    Raises:
        ReportError: a section does not fit the schema.
    """
    report: dict[str, Any] = plain(
        {
            "schema": REPORT_SCHEMA,
            "tool": {"version": version(DISTRIBUTION)},
            "model": {"path": str(measured.original), "sha256": sha256(measured.original)},
            "compressed": {"path": str(measured.compressed), "sha256": sha256(measured.compressed)},
            "plan": measured.plan,
            "seed": measured.seed,
            "size": measured.size,
            "weights": measured.weights,
            "quality": measured.quality,
            "latency": measured.latency,
            "trials": measured.trials,
            "parity": measured.parity,
            "verdict": [],
            "environment": environment_section(),
            "timings": measured.timings,
            "phases": measured.phases,
            "convergence": measured.convergence,
            "notes": measured.notes,
        }
    )
    validate_report(report)
    report["verdict"] = verdict_section(report)
    return report


def write_json(report: Mapping[str, Any], path: Path) -> None:
    """Write the report to ``path`` as UTF-8 JSON by atomic rename.

    Raises:
        ExportError: the folder cannot be written.
    """
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    text = _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text)
    write_atomically(path, text.encode() + b"\n")


def plain(value: Any) -> Any:  # noqa: ANN401 - a JSON value is anything
    """Return ``value`` in JSON's own types: numpy numbers and arrays unpacked, NaN and infinities as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
