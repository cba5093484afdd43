"""The report: one JSON document, from which the terminal text and the page are made."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from toolchain.errors import ExportError
from toolchain.graph import write_atomically
from toolchain.measure.environment import environment_section
from toolchain.measure.verdict import verdict_section

REPORT_SCHEMA = 1
DISTRIBUTION = "onnx-compress"

# What pipelines may rely on: a type, a nested document, a list of documents, or alternatives.
_NUMBER = (int, float)
_MAYBE = (int, float, type(None))
_LATENCY = {"p50_ms": _NUMBER, "p90_ms": _NUMBER, "p99_ms": _NUMBER, "mean_ms": _NUMBER, "runs": int}
SCHEMA: Mapping[str, Any] = {
    "schema": int,
    "tool": {"version": str},
    "model": {"path": str, "sha256": str},
    "compressed": {"path": str, "sha256": str},
    "plan": [{"says": str}],
    "seed": int,
    "size": {
        "original_bytes": int,
        "compressed_bytes": int,
        "ratio": _NUMBER,
        "gzip_original_bytes": int,
        "gzip_compressed_bytes": int,
        "gzip_ratio": _NUMBER,
    },
    "weights": {
        "total": int,
        "nonzero": int,
        "dead": int,
        "nonzero_original": int,
        "ratio": _MAYBE,
        "bits_per_weight": _MAYBE,
        "tensors": [
            {
                "name": str,
                "op": str,
                "shape": list,
                "new_shape": list,
                "size": int,
                "nonzero": int,
                "dead": int,
                "bits": int,
                "structure": str,
                "encoding": str,
                "kernel": str,
                "kernel_reason": str,
                "bytes": int,
            }
        ],
    },
    "quality": {
        "metric": str,
        "original": _MAYBE,
        "compressed": _MAYBE,
        "drop": _MAYBE,
        "fidelity": dict,
        "samples": int,
        "data": str,
    },
    "latency": [{"provider": str, "device": str, "threads": int, "batch": int}],
    "parity": {"judged": str, "max_abs_error": _MAYBE, "tolerance": _MAYBE, "outputs": list},
    "verdict": [{"claim": str, "why": str, "hint": str}],
    "environment": dict,
    "timings": dict,
    "phases": [{"phase": str, "steps": int, "epochs": _NUMBER, "planned_epochs": _NUMBER}],
    "convergence": [{"phase": str, "step": int}],
    "notes": list,
}
MEASURED_LATENCY: Mapping[str, Any] = {
    "original": _LATENCY,
    "compressed": _LATENCY,
    "speedup": _NUMBER,
    "speedup_ci95": list,
    "load_ms": {"original": _NUMBER, "compressed": _NUMBER},
}


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
        parity: ``{judged, max_abs_error, tolerance, outputs}``.
        timings: seconds by stage.
        convergence: the passes' log in order, ``{phase, step, primal, dual, loss, kept, ...}``, without what a phase
            does not have.
        phases: how long each phase trained, against what was planned for it.
        notes: sentences for the reader, such as which data were held out.
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


def build_report(measured: Measurements) -> dict[str, Any]:
    """Return the report document: plain JSON types, the verdict drawn, the environment noted, the schema checked.

    Raises:
        ExportError: a section does not fit the schema.
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
    write_atomically(path, json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def validate_report(report: Mapping[str, Any]) -> None:
    """Check a report against the schema.

    Raises:
        ExportError: a key is missing, or a value has another type; the message gives its place.
    """
    _check(report, SCHEMA, "report")
    if report["schema"] != REPORT_SCHEMA:
        raise ExportError(f"report.schema is {report['schema']}, this version reads {REPORT_SCHEMA}")
    for number, row in enumerate(report["latency"]):
        if "error" not in row:
            _check(row, MEASURED_LATENCY, f"report.latency[{number}]")


def _check(value: Any, schema: Any, where: str) -> None:  # noqa: ANN401 - a JSON value is anything
    if isinstance(schema, Mapping):
        _check(value, dict, where)
        for key, inner in schema.items():
            if key not in value:
                raise ExportError(f"{where} lacks {key!r}, it has {', '.join(map(repr, value))}")
            _check(value[key], inner, f"{where}.{key}")
    elif isinstance(schema, list):
        _check(value, list, where)
        for number, item in enumerate(value):
            _check(item, schema[0], f"{where}[{number}]")
    elif not isinstance(value, schema) or isinstance(value, bool):
        raise ExportError(f"{where} is a {type(value).__name__}: {value!r}, which does not fit the report's schema")


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


def sha256(path: Path) -> str:
    """Return the file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
