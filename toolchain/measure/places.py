"""The report's latency rows as the page shows them: by the machine and device that they were measured on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from toolchain.bench.rows import HERE
from toolchain.measure.charts.chart import Chart
from toolchain.measure.charts.latency import cost_chart, latency_chart, layers_chart
from toolchain.measure.summary import speed_change
from toolchain.measure.verdict import how_run
from toolchain.units import milliseconds, scientific

FACTS = (("cpu", "{}"), ("governor", "governor {}"), ("temperature_c", "{} °C"), ("onnxruntime", "onnxruntime {}"))

MOST_NAMES = 8  # of nodes that fell back


@dataclass(frozen=True)
class Measured:
    """One row of the report's latency: how it was run, what to know of it, and its charts or why there are none."""

    title: str
    speed: str = ""
    remarks: Sequence[str] = ()
    error: str = ""
    charts: Sequence[Chart] = ()


@dataclass
class Place:
    """A device of a machine, what is known of it, and what was measured there."""

    title: str
    facts: str
    rows: list[Measured] = field(default_factory=list)


def places(latency: Sequence[Mapping[str, Any]]) -> list[Place]:
    """Return the places in the order in which they occur."""
    found: dict[tuple[str, str], Place] = {}
    for number, row in enumerate(latency):
        key = row.get("host", HERE), row["device"]
        if key not in found:
            found[key] = Place(", ".join(key), _facts(row))
        found[key].rows.append(_measured(row, number))
    return list(found.values())


def _facts(row: Mapping[str, Any]) -> str:
    known = row.get("environment", {})
    said = [text.format(known[name]) for name, text in FACTS if known.get(name) not in (None, row["device"])]
    if row.get("outputs_max_abs_difference") is not None:
        largest = row["outputs_max_abs_difference"]
        differ = f"differ from those of the machine that compressed by at most {scientific(largest)}"
        said.append(f"outputs {differ if largest else 'equal those of the machine that compressed'}")
    return "; ".join(said)


def _measured(row: Mapping[str, Any], number: int) -> Measured:
    title = how_run(row)
    if "error" in row:
        return Measured(title, error=row["error"])
    charts = [
        latency_chart(row, f"latency-{number}"),
        layers_chart(row.get("layers") or [], f"layers-{number}"),
        cost_chart(row, f"cost-{number}"),
    ]
    return Measured(title, speed_change(row), _remarks(row), charts=[chart for chart in charts if chart is not None])


def _remarks(row: Mapping[str, Any]) -> list[str]:
    remarks = [row["noise"]] if row.get("noise") else []
    if row.get("fallback"):
        names = [f"{node['name']} ({node['op']})" for node in row["fallback"]]
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        remarks.append(f"left to another provider: {', '.join(names[:MOST_NAMES])}{more}")
    return remarks


def trial_rows(trials: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, str]]:
    """Return, of every trial of other options, the options, both medians and the change, or why there is none."""
    return [
        (row["options"], "-", "-", f"not measured, {row['error']}")
        if "error" in row
        else (row["options"], milliseconds(row["original_ms"]), milliseconds(row["compressed_ms"]), speed_change(row))
        for row in trials
    ]
