"""Measures size, latency and fidelity, and reports them."""

from toolchain.measure.html import render_html, write_report
from toolchain.measure.latency import measure_latency
from toolchain.measure.quality import quality_section
from toolchain.measure.report import REPORT_SCHEMA, Measurements, build_report, validate_report
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
    "render_html",
    "render_terminal",
    "run_session",
    "size_section",
    "validate_report",
    "weights_section",
    "write_report",
]
