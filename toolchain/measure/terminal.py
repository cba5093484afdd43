"""The report as text for a terminal or a log."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from toolchain.console import as_text, printable
from toolchain.measure.summary import summary_rows

WIDTH = 88


def render_terminal(report: Mapping[str, Any], width: int = WIDTH, colour: bool = False) -> str:
    """Return the summary table, the verdict and the notes.

    Args:
        report: the document of ``build_report``.
        width: characters per line.
        colour: emphasise with ANSI codes; without them the text is plain.
    """
    parts = [_title(report), "", _table(report), "", *_findings(report), *_notes(report)]
    return as_text(Group(*parts), colour, width)


def _title(report: Mapping[str, Any]) -> Text:
    names = [PurePath(report[key]["path"]).name for key in ("model", "compressed")]
    return Text(printable(f"{names[0]} -> {names[1]}"), style="bold", overflow="fold")


def _table(report: Mapping[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    table.add_column("", overflow="fold")
    table.add_column("before", justify="right", no_wrap=True)
    table.add_column("after", justify="right", no_wrap=True, style="bold")
    table.add_column("change (95 % confidence)", no_wrap=True)
    for row in summary_rows(report):
        table.add_row(*(Text(printable(cell)) for cell in (row.label, row.before, row.after, row.change)))
    return table


def _findings(report: Mapping[str, Any]) -> list[RenderableType]:
    lines: list[RenderableType] = []
    for finding in report["verdict"]:
        lines.append(Text(printable(f"- {finding['claim']}"), style="bold"))
        lines.append(Padding(Text(printable(finding["why"])), (0, 0, 0, 4)))
        if finding["hint"]:
            lines.append(Padding(Text(printable(f"hint: {finding['hint']}")), (0, 0, 0, 4)))
    return lines


def _notes(report: Mapping[str, Any]) -> list[RenderableType]:
    return [Text(printable(f"note: {note}"), overflow="fold") for note in report["notes"]]
