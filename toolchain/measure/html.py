"""The report as one self-contained HTML page."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePath
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from toolchain import units
from toolchain.errors import ExportError
from toolchain.graph import write_atomically
from toolchain.measure.charts import size, weights
from toolchain.measure.charts.chart import largest_note
from toolchain.measure.charts.quality import classes_chart, drop_chart
from toolchain.measure.charts.training import training_charts
from toolchain.measure.headline import headline
from toolchain.measure.places import places, trial_rows
from toolchain.measure.report import write_json
from toolchain.measure.schema import validate_report
from toolchain.measure.summary import summary_rows
from toolchain.measure.verdict import real_accuracy_missing


def render_html(report: Mapping[str, Any]) -> str:
    """Return the page; it loads nothing, and every name from the model is escaped.

    Raises:
        ReportError: the report does not fit its schema.
    """
    validate_report(report)
    tensors, quality = report["weights"]["tensors"], report["quality"]
    of_tensors = (size.tensor_bytes_chart, weights.kept_chart, weights.bits_chart) if tensors else ()
    return (
        templates()
        .get_template("report.html")
        .render(
            report=report,
            headline=headline(report),
            summary=summary_rows(report),
            real_accuracy_missing=real_accuracy_missing(report),
            sizes=[size.file_chart(report["size"]), size.share_chart(report["size"], tensors)],
            weights=[chart(tensors) for chart in of_tensors],
            histograms=weights.histogram_charts(tensors),
            histogram_rows=weights.histogram_table(tensors),
            histogram_note=largest_note(tensors),
            quality=[chart for chart in (drop_chart(quality), classes_chart(quality)) if chart],
            labelled=any(row["label"] is not None for row in quality["worst"]),
            places=places(report["latency"]),
            trials=trial_rows(report.get("trials", ())),
            training=training_charts(report["convergence"]),
            trained=[phase for phase in report["phases"] if phase["steps"]],
            phases=list(dict.fromkeys(entry["phase"] for entry in report["convergence"])),
        )
    )


@cache
def templates() -> Environment:
    """Return the templates of all pages, with the filters that they use."""
    environment = Environment(
        loader=PackageLoader("toolchain.measure", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "significant": units.significant,
        "scientific": units.scientific,
        "percent": units.percent,
        "filename": lambda path: PurePath(path).name,
        "compact": lambda value: json.dumps(value, ensure_ascii=False, indent=1),
        "capital": capital,
        "sentence": lambda text: f"{capital(text).rstrip('.')}.",
    }
    return environment


def capital(text: str) -> str:
    """Return ``text`` with its first letter in upper case, the others as they are; ``p50`` is no word."""
    return text if text[1:2].isdigit() else text[:1].upper() + text[1:]


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
