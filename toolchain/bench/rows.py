"""The report's ``latency`` rows: a compressed model beside its original, from a case of the bench document."""

from collections.abc import Mapping, Sequence
from typing import Any

from toolchain.bench.explain import failure

HERE = "this machine"  # the host of what was measured where the command ran

_TIMES = ("p50_ms", "p90_ms", "p99_ms", "mean_ms", "runs", "quantiles_ms", "p50_ci95_ms", "throughput_per_s")


def latency_rows(cases: Sequence[Mapping[str, Any]], index: int = 1) -> list[dict[str, Any]]:
    """Return a row per case for the model at ``index`` against the first; one that failed has ``error`` instead."""
    return [_row(case, index) for case in cases]


def _row(case: Mapping[str, Any], index: int) -> dict[str, Any]:
    row = {key: case[key] for key in ("host", "provider", "device", "threads", "batch", "transfers", "preempted_per_s")}
    original, compressed = case["models"][0], case["models"][index]
    why = complaints(case, (0, index))
    if "speedup" not in compressed:
        return row | {"error": "; ".join(why) or "latency was not measured"}
    sides = {"original": original, "compressed": compressed}
    row |= {side: {key: model[key] for key in _TIMES} for side, model in sides.items()}
    row |= {key: compressed[key] for key in ("speedup", "speedup_ci95", "noisy", "noise", "sessions")}
    row["load_ms"] = {side: model["load_ms"] for side, model in sides.items()}
    if all(model["memory"] for model in sides.values()):
        row["memory"] = {side: model["memory"] for side, model in sides.items()}
    if "layers" in compressed and "layers" in original:
        row["layers"] = compressed["layers"]
    if compressed.get("fallback"):
        row["fallback"] = compressed["fallback"]
    return row


def complaints(case: Mapping[str, Any], indices: tuple[int, ...] | None = None) -> list[str]:
    """Return what could not be measured in a case and why, one sentence each; of all models where none are named."""
    models = case["models"] if indices is None else [case["models"][index] for index in indices]
    found = [case["error"]] if case["error"] else []
    return found + [failure(model["name"], model["error"], case["provider"]) for model in models if model["error"]]
