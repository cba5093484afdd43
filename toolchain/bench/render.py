"""The bench document and its changes as text for a terminal or a log."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from toolchain import units
from toolchain.bench.estimate import BUSY_PER_S, disturbance
from toolchain.bench.history import Change, case_name
from toolchain.bench.layers import busiest
from toolchain.bench.rows import HERE
from toolchain.console import as_text, printable

WIDTH = 96
LAYERS_SHOWN = 20

_EMPTY = "-"
_LEGEND = "p50, p90, p99: 50, 90 and 99 % of the runs took no longer. samples/s: of all runs, slow ones included. "
_LEGEND_OF_SPEEDUP = "speedup: p50 of the first model by that of this one, and its interval of 95 % confidence. "
_LEGEND_OF_MEMORY = "memory: what the model added to the process at most."
_VERDICTS = {
    "noise": "within the noise",
    "machine": "as the unchanged original: the machine",
    "better": "better",
    "worse": "worse",
    "same": "same",
}
_STYLES = {"better": "green", "worse": "red"}


def render_bench(document: Mapping[str, Any], colour: bool = False, width: int = WIDTH) -> str:
    """Return the tables of a bench document.

    Args:
        document: from ``bench``.
        colour: emphasise with ANSI codes; without them the text is plain.
        width: characters per line.
    """
    parts: list[RenderableType] = [_files(document["models"])]
    for case in document["cases"]:
        parts += ["", Text(printable(_heading(case)), style="bold"), _times(case), "", _resources(case)]
        parts += _remarks(case)
        parts += [
            part for model in case["models"][1:] or case["models"] for part in _layers(model, len(case["models"]))
        ]
    of_speedup = _LEGEND_OF_SPEEDUP if len(document["models"]) > 1 else ""
    parts += ["", Text(f"{_LEGEND}{of_speedup}{_LEGEND_OF_MEMORY}", style="dim")]
    parts += [Text(printable(f"note: {note}")) for note in document["notes"]]
    return as_text(Group(*parts), colour, width)


def render_changes(changes: Sequence[Change], notes: Sequence[str], colour: bool = False, width: int = WIDTH) -> str:
    """Return the table of what changed since an earlier bench document.

    Args:
        changes: from ``compare``.
        notes: what else differs.
        colour: emphasise with ANSI codes.
        width: characters per line.
    """
    parts: list[RenderableType] = []
    for case, group in groupby(changes, key=attrgetter("case")):
        table = new_table("", "then", "now", "now / then (95 %)", "verdict")
        for change in group:
            low, high = change.ci95
            ratio = f"{change.ratio:.3f}" + (f" ({low:.3f} to {high:.3f})" if low < high else "")
            figures = (_figure(change.figure, value) for value in (change.before, change.after))
            verdict = Text(_VERDICTS[change.verdict], style=_STYLES.get(change.verdict, ""))
            table.add_row(*row_cells(f"{change.model}: {change.figure}", *figures, ratio), verdict)
        parts += ["", Text(f"then and now: {printable(case or 'files')}", style="bold"), table]
    return as_text(Group(*parts, *(Text(printable(f"note: {note}")) for note in notes)), colour, width)


def _figure(name: str, value: float) -> str:
    if name == "speedup":
        return units.times(value)
    return units.bytes_text(value) if name in ("file", "gzip") else units.milliseconds(value)


def _files(models: Sequence[Mapping[str, Any]]) -> Table:
    table = new_table("model", "file", "gzip", *(["smaller"] if len(models) > 1 else []))
    first = models[0]
    for index, model in enumerate(models):
        ratio = [units.times(first["file_bytes"] / model["file_bytes"])] if index else []
        sizes = (units.bytes_text(model[key]) for key in ("file_bytes", "gzip_bytes"))
        table.add_row(*row_cells(model["name"], *sizes, *ratio))
    return table


def _heading(case: Mapping[str, Any]) -> str:
    host = "" if case["host"] == HERE else f"{case['host']}: "
    return f"{host}{case_name(case)}, on {case['device']}"


def _times(case: Mapping[str, Any]) -> Table:
    compared = ["speedup (95 %)"] if len(case["models"]) > 1 else []
    table = new_table("", "p50", "p90", "p99", "samples/s", *compared)
    for index, model in enumerate(case["models"]):
        cells = [
            *(_ms(model.get(key)) for key in ("p50_ms", "p90_ms", "p99_ms")),
            units.significant(model["throughput_per_s"]) if "throughput_per_s" in model else _EMPTY,
            *([_speedup(model)] if index else []),
        ]
        table.add_row(*row_cells(model["name"], *cells))
    return table


def _resources(case: Mapping[str, Any]) -> Table:
    table = new_table("", "time to load", "memory to load", "memory to run")
    for model in case["models"]:
        memory = model["memory"] or {}
        sizes = (units.bytes_text(memory[key]) if key in memory else _EMPTY for key in ("load_bytes", "peak_bytes"))
        table.add_row(*row_cells(model["name"], _ms(model.get("load_ms")), *sizes))
    return table


def _ms(value: float | None) -> str:
    return _EMPTY if value is None else units.milliseconds(value)


def _speedup(model: Mapping[str, Any]) -> str:
    if "speedup" not in model:
        return _EMPTY
    low, high = model["speedup_ci95"]
    return f"{model['speedup']:.2f}x ({low:.2f} to {high:.2f})"


def _remarks(case: Mapping[str, Any]) -> list[RenderableType]:
    remarks = [
        f"warning: too noisy to tell about {model['name']}: {model['noise']}; close other programs, or raise --seconds"
        for model in case["models"]
        if model.get("noisy")
    ]
    if not remarks and (case["preempted_per_s"] or 0.0) > BUSY_PER_S:
        often = disturbance(case["preempted_per_s"])
        remarks.append(f"warning: the machine was busy, {often}; a quiet machine may show other figures")
    for model in case["models"]:
        nodes = model.get("fallback") or []
        named = ", ".join(f"{node['name']} ({node['op']})" for node in nodes[:LAYERS_SHOWN])
        more = f" and {len(nodes) - LAYERS_SHOWN} more" if len(nodes) > LAYERS_SHOWN else ""
        if nodes:
            remarks.append(f"warning: {len(nodes)} nodes of {model['name']} ran on the CPU: {named}{more}")
    return [Text(printable(remark), style="yellow") for remark in remarks]


def _layers(model: Mapping[str, Any], models: int) -> list[RenderableType]:
    """Return the table of where the time goes, the busiest nodes first."""
    rows = model.get("layers")
    if not rows:
        return []
    alone = models == 1
    totals = [sum(row[key] or 0.0 for row in rows) for key in ("original_ms", "compressed_ms")]
    table = new_table(f"where the time goes: {model['name']}", "operator", *(["time", "share"] if alone else _PAIR))
    ordered = busiest(rows)
    rest = ordered[LAYERS_SHOWN:]
    for row in ordered[:LAYERS_SHOWN]:
        table.add_row(*row_cells(row["name"], row["op"], *_spent(row, totals, alone)))
    if rest:
        sums = {key: sum(row[key] or 0.0 for row in rest) for key in ("original_ms", "compressed_ms")}
        table.add_row(*row_cells(f"{len(rest)} more", "", *_spent(sums, totals, alone)))
    return [Padding(table, (1, 0, 0, 0))]


_PAIR = ("original", "share", "compressed", "share", "speedup")


def _spent(row: Mapping[str, Any], totals: Sequence[float], alone: bool) -> list[str]:
    before, after = row["original_ms"], row["compressed_ms"]
    cells = [_ms(before), _share(before, totals[0])]
    if alone:
        return cells
    ratio = units.times(before / after) if before and after else ""
    return [*cells, _ms(after), _share(after, totals[1]), ratio]


def _share(value: float | None, total: float) -> str:
    return "" if value is None or not total else f"{value / total:.0%}"


def new_table(*columns: str) -> Table:
    """Return an empty table; the first column, operators and verdicts are text, the others are figures."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    for index, column in enumerate(columns):
        is_text = index == 0 or column in ("operator", "verdict")
        table.add_column(
            Text(printable(column)), justify="left" if is_text else "right", overflow="fold", no_wrap=not is_text
        )
    return table


def row_cells(*texts: str) -> list[Text]:
    """Return the cells of a row, with nothing in them that a terminal would obey."""
    return [Text(printable(text)) for text in texts]
