"""Times alternatives against the original on this machine, so that a hint has a figure before it is given."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from calibration.dataset import Batch
from toolchain import units
from toolchain.bench import probe
from toolchain.bench.inputs import Prepared
from toolchain.bench.measurement import Settings, host_cases, make_job
from toolchain.bench.rows import HERE, latency_rows
from toolchain.errors import ToolchainError
from toolchain.execution.trainable import usable_weights
from toolchain.graph import save_proto
from toolchain.hints.alternatives import Alternative, Original, alternatives
from toolchain.measure.verdict import is_faster, is_overhead
from toolchain.planning.plan import Plan

# ResNet-50's 25 million take 4 to 6 s of one core for each structure: at twice as many, trials cease to be a trifle.
MOST_WEIGHTS = 50_000_000
LONGEST_MS = 1000.0  # of a run of the original: every alternative runs a few dozen times
BUILDING_S = 20.0  # after which no further alternative is begun
TIMING_S = 3.0


def try_alternatives(
    original: Original, plan: Plan, sample: Batch, latency: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return a row ``{options, original_ms, compressed_ms, speedup, speedup_ci95}`` per alternative, measured.

    Nothing is tried where the result is faster on the CPU, or was not measured there, or where a run is so short that
    there is nothing to gain. An alternative that could not be made or measured has ``error`` instead of figures: a
    trial is never worth the result of a run.

    Args:
        original: the model before; its teacher is moved to the CPU.
        plan: what was done instead.
        sample: what is fed.
        latency: the report's section, of the result.
    """
    measured = [row for row in latency if row["provider"] == probe.CPU and "error" not in row]
    if not measured or is_faster(measured[0]) or is_overhead(measured[0]):
        return []
    original.teacher.move_to(torch.device("cpu"))
    begun, rows = time.monotonic(), []
    too_much = _too_much(original, measured[0]["original"]["p50_ms"])
    with tempfile.TemporaryDirectory(prefix="compress-hints-") as name:
        built: dict[str, Path] = {}
        for number, alternative in enumerate(alternatives(original, plan)):
            file = Path(name) / f"alternative-{number}.onnx"
            if too_much:
                why = too_much
            elif time.monotonic() - begun > BUILDING_S:
                why = f"not tried: the others took more than {BUILDING_S:.0f} s"
            else:
                why = _build(alternative, file)
            rows.append({"options": alternative.options, **({"error": why} if why else {})})
            if not why:
                built[alternative.options] = file
        files = [original.path, *built.values()]
        figures = _time(files, sample, plan.export.threads, Path(name)) if built else []
        timed = dict(zip(built, figures, strict=True))
    return [row | timed.get(row["options"], {}) for row in rows]


def _too_much(original: Original, run_ms: float) -> str:
    """Return why trials would take too long; empty where they would not."""
    size = sum(weight.size for weight in usable_weights(original.graph) if not weight.reason)
    if size > MOST_WEIGHTS:
        return f"not tried: {size:,} weights take too long"
    return f"not tried: runs of {units.milliseconds(run_ms)} take too long" if run_ms > LONGEST_MS else ""


def _build(alternative: Alternative, file: Path) -> str:
    """Write the alternative to ``file``; return why that is not possible, empty where it is."""
    if alternative.build is None:
        return f"does not fit: {alternative.why}"
    try:
        save_proto(alternative.build(), file)
    except (ToolchainError, RuntimeError, ValueError, MemoryError) as error:  # torch raises the second and third
        return f"could not be made: {error}"
    return ""


def _time(paths: Sequence[Path], sample: Batch, threads: int, folder: Path) -> list[dict[str, Any]]:
    """Return the figures of every file but the first, which they are compared with, or their error."""
    settings = Settings(threads=(threads,), seconds=TIMING_S)
    try:
        job = make_job(paths, settings, [Prepared(len(sample), sample.feeds, ())], folder)
        cases = host_cases(HERE, probe.run(job, folder, lambda _what, _done: None))
    except ToolchainError as error:
        return [{"error": f"could not be measured: {error}"}] * (len(paths) - 1)
    return [_figures(latency_rows(cases, index)[0]) for index in range(1, len(paths))]


def _figures(row: Mapping[str, Any]) -> dict[str, Any]:
    if "error" in row:
        return {"error": f"could not be measured: {row['error']}"}
    return {
        "original_ms": row["original"]["p50_ms"],
        "compressed_ms": row["compressed"]["p50_ms"],
        "speedup": row["speedup"],
        "speedup_ci95": row["speedup_ci95"],
    }
