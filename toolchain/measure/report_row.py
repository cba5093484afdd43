"""``--report``: the figures of another machine as rows of a report that is there already."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from toolchain.bench.differences import largest_difference
from toolchain.bench.rows import HERE, latency_rows
from toolchain.errors import BenchError
from toolchain.measure.html import write_report
from toolchain.measure.runs import device_of
from toolchain.measure.schema import read_report

FACTS = ("cpu", "governor", "temperature_c", "onnxruntime", "python")


def find_report(folder: Path, models: Sequence[tuple[Path, str]]) -> tuple[dict[str, Any], int]:
    """Return the report in ``folder``, and which of the models is its compressed one.

    Args:
        folder: with ``report.json``.
        models: what is measured, with the SHA-256 of each; the first must be the report's original.

    Raises:
        ToolchainError: there is no report, or it is of other files.
    """
    report = read_report(folder / "report.json")
    digests = [digest for _, digest in models]
    if digests[0] != report["model"]["sha256"]:
        raise BenchError(
            f"the report in {folder} is of the original {report['model']['path']}, not of {models[0][0]}",
            hint="give the original first, as it was when it was compressed",
        )
    if report["compressed"]["sha256"] not in digests[1:]:
        raise BenchError(
            f"the report in {folder} is of {report['compressed']['path']}, which is not among the models measured",
            hint="give it after the original",
        )
    return report, digests.index(report["compressed"]["sha256"], 1)


def add_to_report(folder: Path, document: Mapping[str, Any]) -> Path:
    """Add what was measured to the report in ``folder``, write its page anew, and return the page's path.

    A row of the same machine, provider, threads and batch takes the place of the earlier one.

    Raises:
        ToolchainError: there is no report, it is of other files, or it cannot be written.
    """
    report, index = find_report(folder, [(Path(model["path"]), model["sha256"]) for model in document["models"]])
    rows = latency_rows(document["cases"], index)
    for row, case in zip(rows, document["cases"], strict=True):
        if case["host"] != HERE:
            environment = document["environments"][case["host"]]
            row["environment"] = {name: environment[name] for name in FACTS}
        if any("differences" in model for model in case["models"]):
            row["outputs_max_abs_difference"] = largest_difference([case["models"][0], case["models"][index]])
    known = [device_of(row) for row in rows]
    report["latency"] = [row for row in report["latency"] if device_of(row) not in known] + rows
    return write_report(report, folder)
