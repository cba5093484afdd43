"""The report's schema: published as ``report.schema.json``, from which both the version and the checks come."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toolchain.errors import ReportError
from toolchain.validation import load_schema, misfit

SCHEMA = load_schema("toolchain.measure", "report.schema.json")
REPORT_SCHEMA: int = SCHEMA["properties"]["schema"]["const"]


def validate_report(report: Any, where: str = "report") -> None:  # noqa: ANN401 - what a file holds may be anything
    """Check a report against the schema.

    Args:
        report: the document.
        where: what an error calls it.

    Raises:
        ReportError: it is of another version, or a value does not fit; the message gives its place.
    """
    if not isinstance(report, Mapping) or "schema" not in report:
        raise ReportError(f"{where} is no report: it has no schema version", hint="give a report.json of compress")
    if report.get("kind") == "bench":
        raise ReportError(
            f"{where} is what compress bench --json printed, not a report", hint="give a report.json of compress"
        )
    if report["schema"] != REPORT_SCHEMA:
        tool = report.get("tool")
        writer = tool.get("version", "another version") if isinstance(tool, Mapping) else "another version"
        raise ReportError(
            f"{where} follows schema {report['schema']!r}, this version of compress reads {REPORT_SCHEMA}",
            hint=f"read it with the compress that wrote it ({writer}), or compress again to have it in this schema",
        )
    place, why = misfit(SCHEMA, report)
    if why:
        raise ReportError(f"{where}{place} does not fit the report's schema: {why}")


def read_report(path: Path) -> dict[str, Any]:
    """Return the report in a ``report.json``, checked.

    Raises:
        ReportError: the file cannot be read, is not JSON, or does not follow the schema.
    """
    try:
        report: dict[str, Any] = json.loads(path.read_bytes())
    except OSError as error:
        raise ReportError(
            f"cannot read {path}: {error.strerror}",
            hint="give a report.json of compress, or the folder that it lies in",
        ) from error
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{path} is not JSON: {error}", hint="give a report.json of compress") from error
    validate_report(report, str(path))
    return report
