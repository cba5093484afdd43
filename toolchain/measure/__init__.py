"""Measures size, latency and fidelity, and reports them.

Names are imported when they are asked for: some need torch, which reading a report or timing a file does not.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toolchain.measure.html import render_html, write_report
    from toolchain.measure.latency import measure_latency
    from toolchain.measure.quality import quality_section
    from toolchain.measure.report import Measurements, build_report
    from toolchain.measure.schema import REPORT_SCHEMA, read_report, validate_report
    from toolchain.measure.session import open_session, run_session
    from toolchain.measure.size import size_section
    from toolchain.measure.terminal import render_terminal
    from toolchain.measure.weights import describe_dead, weights_section

__all__ = [
    "REPORT_SCHEMA",
    "Measurements",
    "build_report",
    "describe_dead",
    "measure_latency",
    "open_session",
    "quality_section",
    "read_report",
    "render_html",
    "render_terminal",
    "run_session",
    "size_section",
    "validate_report",
    "weights_section",
    "write_report",
]

# No module is called as what it offers: it would take the name once it is imported.
_MODULES = {
    "REPORT_SCHEMA": "schema",
    "Measurements": "report",
    "build_report": "report",
    "describe_dead": "weights",
    "measure_latency": "latency",
    "open_session": "session",
    "quality_section": "quality",
    "read_report": "schema",
    "render_html": "html",
    "render_terminal": "terminal",
    "run_session": "session",
    "size_section": "size",
    "validate_report": "schema",
    "weights_section": "weights",
    "write_report": "html",
}


def __getattr__(name: str) -> object:
    """Import the public names on first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value
