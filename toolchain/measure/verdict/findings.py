"""What all rules of the verdict share."""

from collections.abc import Mapping
from typing import Any

Report = Mapping[str, Any]
Finding = dict[str, str]

SHORT_PROVIDERS = {
    "CPUExecutionProvider": "CPU",
    "CUDAExecutionProvider": "CUDA",
    "TensorrtExecutionProvider": "TensorRT",
}


def finding(claim: str, why: str, hint: str = "") -> Finding:
    """Return a finding: what is so, by which figures, and what to do about it."""
    return {"claim": claim, "why": why, "hint": hint}


def short_provider(name: str) -> str:
    """Return the name that a reader knows: ``CPU`` for ``CPUExecutionProvider``."""
    return SHORT_PROVIDERS.get(name, name.removesuffix("ExecutionProvider"))


def how_run(row: Mapping[str, Any]) -> str:
    """Return how a latency row was measured: ``CPU, 2 threads, batch 1``."""
    threads = f"{row['threads']} thread{'s' * (row['threads'] > 1)}"
    copies = ", without copies" if row.get("transfers") == "out" else ""
    return f"{short_provider(row['provider'])}, {threads}, batch {row['batch']}{copies}"
