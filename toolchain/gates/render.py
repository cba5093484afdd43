"""Outcomes of gates as text, as GitHub's annotations and summary, and as JUnit XML."""

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from toolchain import units
from toolchain.console import without_controls
from toolchain.gates.judge import Outcome
from toolchain.gates.limits import option_name

SUITE = "compress check"

# XML 1.0 has no way to write the others.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def asked_text(outcome: Outcome) -> str:
    """Return the threshold: ``at most 2.00 MB``."""
    bound = "at most" if outcome.gate.startswith("max") else "at least"
    return f"{bound} {_figure(outcome.asked, outcome.unit, _digits(outcome))}"


def measured_text(outcome: Outcome) -> str:
    """Return the figure with its interval: ``1.62x (95 % 1.49 to 1.64)``."""
    if outcome.measured is None:
        return "not measured"
    digits = _digits(outcome)
    text = _figure(outcome.measured, outcome.unit, digits)
    if outcome.interval is None:
        return text
    low, high = (_figure(end, outcome.unit, digits).split()[0].removesuffix("x") for end in outcome.interval)
    return f"{text} (95 % {low} to {high})"


def _digits(outcome: Outcome) -> int:
    """Return with how many digits the threshold reads otherwise than what misses it: 3 where nothing does."""
    if outcome.passed or outcome.measured is None:
        return 3
    ends = (outcome.measured, *(outcome.interval or ()))
    missed = [end for end in ends if (end > outcome.asked if outcome.gate.startswith("max") else end < outcome.asked)]
    told = (
        digits
        for digits in range(3, 16)
        if any(_figure(end, outcome.unit, digits) != _figure(outcome.asked, outcome.unit, digits) for end in missed)
    )
    return next(told, 16)


def _figure(value: float, unit: str, digits: int) -> str:
    if unit == "bytes":
        return units.bytes_text(value) if digits == 3 else f"{value:,.0f} B"
    if unit == "ms":
        return f"{units.significant(value, digits)} ms"
    if unit == "factor":
        return f"{units.significant(value, digits)}x"
    decimals = digits - 1
    return f"{value:.{decimals}f} %" if unit == "percent" else f"{value:.{decimals}f} points"


def render_text(outcomes: Sequence[Outcome], missed_only: bool = False) -> str:
    """Return a line per outcome, or per missed one, and one for all of them, without a line break at the end."""
    rows = [_cells(outcome) for outcome in outcomes if not (missed_only and outcome.passed)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]).rstrip()
        for row in rows
    ]
    return "\n".join([*map(without_controls, lines), summary_text(outcomes)])


def summary_text(outcomes: Sequence[Outcome]) -> str:
    """Return how many gates passed."""
    failed = sum(not outcome.passed for outcome in outcomes)
    count = len(outcomes)
    if failed:
        return f"{failed} of {count} gates failed"
    return "the gate passed" if count == 1 else f"all {count} gates passed"


def _cells(outcome: Outcome) -> tuple[str, str, str, str, str]:
    return (
        "pass" if outcome.passed else "FAIL",
        option_name(outcome.gate),
        asked_text(outcome),
        measured_text(outcome),
        details_text(outcome),
    )


def details_text(outcome: Outcome) -> str:
    """Return what was measured, and why it was not."""
    return ": ".join(part for part in (outcome.about, outcome.why) if part)


def render_github(outcomes: Sequence[Outcome]) -> str:
    """Return the lines of ``render_text``, and an error annotation for every gate that failed."""
    lines = [render_text(outcomes)]
    for outcome in outcomes:
        if not outcome.passed:
            title = f"compress: {option_name(outcome.gate)}"
            lines.append(f"::error title={_property(title)}::{_message(_sentence(outcome))}")
    return "\n".join(lines)


def _sentence(outcome: Outcome) -> str:
    details = details_text(outcome)
    return f"{asked_text(outcome)} asked, {measured_text(outcome)}" + (f"; {details}" if details else "")


def _message(text: str) -> str:
    """Escape a message as GitHub's runner unescapes it."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")


def github_summary(outcomes: Sequence[Outcome], report: Mapping[str, Any]) -> str:
    """Return a Markdown table for the summary page of a job.

    Args:
        outcomes: of the gates.
        report: names the model.
    """
    name = str(report["compressed"]["path"]).replace("\\", "/").rsplit("/", 1)[-1]
    lines = [
        f"### Gates of {_markdown(name)}: {summary_text(outcomes)}",
        "",
        "| | gate | asked | measured | |",
        "| --- | --- | --- | --- | --- |",
    ]
    for outcome in outcomes:
        cells = _cells(outcome)
        lines.append("| " + " | ".join(map(_markdown, ("✅" if outcome.passed else "❌", *cells[1:]))) + " |")
    return "\n".join(lines) + "\n\n"


def _markdown(text: str) -> str:
    """Return text that Markdown shows as it is, on one line, also inside of a table."""
    return re.sub(r"([\\`*_{}\[\]()#+!|~])", r"\\\1", html.escape(without_controls(text), quote=False))


def render_junit(outcomes: Sequence[Outcome], report: Mapping[str, Any]) -> str:
    """Return JUnit XML: a test case per outcome.

    Args:
        outcomes: of the gates.
        report: names the model.
    """
    failures = sum(not outcome.passed for outcome in outcomes)
    counts = {"tests": str(len(outcomes)), "failures": str(failures), "errors": "0", "time": "0"}
    root = ElementTree.Element("testsuites", {"name": SUITE, **counts})
    suite = ElementTree.SubElement(root, "testsuite", {"name": SUITE, "skipped": "0", **counts})
    for outcome in outcomes:
        name = f"{option_name(outcome.gate)} {asked_text(outcome)}" + (f" ({outcome.about})" if outcome.about else "")
        attributes = {"classname": _xml(str(report["compressed"]["path"])), "name": _xml(name), "time": "0"}
        case = ElementTree.SubElement(suite, "testcase", attributes)
        if not outcome.passed:
            failure = {"message": _xml(_sentence(outcome)), "type": "gate"}
            ElementTree.SubElement(case, "failure", failure).text = _xml(_sentence(outcome))
        else:
            ElementTree.SubElement(case, "system-out").text = _xml(_sentence(outcome))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode")


def _xml(text: str) -> str:
    return _NOT_XML.sub("?", text)
