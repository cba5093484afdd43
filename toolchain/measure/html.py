"""The report as one self-contained HTML page."""

import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from toolchain.errors import ExportError
from toolchain.graph import write_atomically
from toolchain.measure import charts, units
from toolchain.measure.report import write_json
from toolchain.measure.schema import validate_report
from toolchain.measure.summary import summary_rows
from toolchain.measure.verdict import real_accuracy_missing, short_provider

# Curve class by logged field; the page's legend names the same classes.
RESIDUALS = {"primal": "after", "dual": "before"}
KEPT = {"kept": "after"}
LOSS = {"loss": "after"}
ACCURACY = {"selection_accuracy": "after"}


def render_html(report: Mapping[str, Any]) -> str:
    """Return the page; it loads nothing, and every name from the model is escaped.

    Raises:
        ReportError: the report does not fit its schema.
    """
    validate_report(report)
    environment = Environment(
        loader=PackageLoader("toolchain", "measure"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "bytes": units.bytes_text,
        "ms": units.milliseconds,
        "significant": units.significant,
        "scientific": units.scientific,
        "percent": units.percent,
        "provider": short_provider,
        "filename": lambda path: PurePath(path).name,
        "compact": lambda value: json.dumps(value, ensure_ascii=False, indent=1),
    }
    return environment.get_template("page.html").render(
        report=report,
        summary=summary_rows(report),
        real_accuracy_missing=real_accuracy_missing(report),
        largest=charts.LARGEST,
        phases=list(dict.fromkeys(entry["phase"] for entry in report["convergence"])),
        charts=_charts(report),
    )


def _charts(report: Mapping[str, Any]) -> dict[str, Any]:
    tensors, convergence = report["weights"]["tensors"], report["convergence"]
    return {
        "bytes": charts.bytes_chart(report["size"]),
        "kept": charts.kept_chart(tensors) if tensors else None,
        "bits": charts.bits_chart(tensors) if tensors else None,
        "latency": [
            (row, charts.latency_chart(row, f"latency-{number}"))
            for number, row in enumerate(report["latency"])
            if "error" not in row
        ],
        "residuals": charts.progress_chart(convergence, RESIDUALS, "residuals", "Residuals over the steps"),
        "kept_over_time": charts.progress_chart(convergence, KEPT, "progress", "Kept weights over the steps"),
        "loss": charts.progress_chart(convergence, LOSS, "loss", "Training loss over the steps"),
        "accuracy": charts.progress_chart(convergence, ACCURACY, "accuracy", "Accuracy over the steps", share=True),
    }


def write_report(report: Mapping[str, Any], folder: Path) -> Path:
    """Write ``report.json`` and ``report.html`` into ``folder``, made if needed; return the page's path.

    Raises:
        ExportError: the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"cannot make the folder {folder}: {error.strerror}") from error
    page = folder / "report.html"
    write_json(report, folder / "report.json")
    write_atomically(page, render_html(report).encode())
    return page
