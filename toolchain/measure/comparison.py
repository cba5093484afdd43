"""The page that compares the runs of a folder."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from toolchain import units
from toolchain.errors import ReportError
from toolchain.graph import write_atomically
from toolchain.measure.charts.chart import Chart
from toolchain.measure.charts.runs import Axes, Point, front_chart
from toolchain.measure.html import capital, templates
from toolchain.measure.quality import ACCURACY, COSINE
from toolchain.measure.runs import PAGE, REPORT, Comparison, Device, Run, compare, device_text, find_runs, pareto_front
from toolchain.measure.summary import speed_change


@dataclass(frozen=True)
class Row:
    """A run in the table; ``link`` is empty where it has no page, ``times`` has its latency and speedup per device."""

    number: int
    name: str
    link: str
    says: str
    bytes: str
    ratio: str
    score: str
    change: str
    times: Sequence[tuple[str, str]]
    best: Sequence[str]


@dataclass(frozen=True)
class Group:
    """What the page shows of one comparison; ``points`` tells whether changes of scores are in percentage points."""

    key: str
    title: str
    metric: str
    points: bool
    says: str
    original: Row
    devices: Sequence[str]
    rows: Sequence[Row]
    charts: Sequence[Chart]


def write_comparison(folder: Path, page: Path) -> list[ReportError]:
    """Compare all runs of ``folder`` on one page, and return why some were left out.

    Args:
        folder: is searched for ``report.json``, with all folders below it.
        page: where the page goes.

    Raises:
        ReportError: no report can be read, or the page would replace that of a run.
        ExportError: the page cannot be written.
    """
    if page.name in (REPORT, PAGE):
        raise ReportError(f"{page} is called like a run's own page", hint="call it index.html, say")
    runs, skipped = find_runs(folder)
    text = render_comparison(runs, page.parent, folder.resolve().name, [str(error) for error in skipped])
    write_atomically(page, text.encode())
    return skipped


def render_comparison(runs: Sequence[Run], place: Path, title: str, skipped: Sequence[str] = ()) -> str:
    """Return the page; it loads nothing, and every name is escaped.

    Args:
        runs: at least one.
        place: folder of the page, from which it links to those of the runs.
        title: of the page.
        skipped: why reports were left out.
    """
    groups = [_group(comparison, f"group-{number}", place) for number, comparison in enumerate(compare(runs), 1)]
    page = templates().get_template("runs.html")
    return page.render(title=title, groups=groups, count=len(runs), skipped=skipped)


def _group(comparison: Comparison, key: str, place: Path) -> Group:
    quality, devices = comparison.quality, comparison.devices
    original = Row(
        number=0,
        name="original",
        link="",
        says="",
        bytes=units.bytes_text(comparison.original_bytes),
        ratio="1x",
        score=_score(comparison, quality["original"]),
        change="",
        times=[(units.milliseconds(comparison.original_ms(device)), "") for device in devices],
        best=(),
    )
    charts, best = _charts(comparison, key)
    judged = f"{capital(quality['metric'])} on {quality['samples']:,} samples"
    source = f" ({quality['source']})" if "source" in quality else ""
    return Group(
        key,
        comparison.model,
        quality["metric"],
        quality["metric"] != COSINE,
        f"{judged}{source}.",
        original,
        [device_text(device) for device in devices],
        [
            _row(comparison, run, number, place, [name for name, front in best.items() if number in front])
            for number, run in enumerate(comparison.runs, 1)
        ],
        charts,
    )


def _row(comparison: Comparison, run: Run, number: int, place: Path, best: Sequence[str]) -> Row:
    quality = run.report["quality"]
    page = run.path.with_name(PAGE)
    drop = quality["drop"]
    change = "" if drop is None else f"{0.0 - drop:+.4f}" if quality["metric"] == COSINE else f"{0.0 - 100 * drop:+.2f}"
    return Row(
        number=number,
        name=run.name,
        link=quote(os.path.relpath(page, place).replace(os.sep, "/")) if page.is_file() else "",
        says=run.says,
        bytes=units.bytes_text(run.bytes),
        ratio=units.times(run.report["size"]["ratio"]),
        score=_score(comparison, run.score),
        change=change,
        times=[_time(run, device) for device in comparison.devices],
        best=best,
    )


def _score(comparison: Comparison, score: float | None) -> str:
    if score is None:
        return "-"
    return f"{score:.4f}" if comparison.quality["metric"] == COSINE else units.percent(score)


def _time(run: Run, device: Device) -> tuple[str, str]:
    row = run.latency(device)
    return ("-", "") if row is None else (units.milliseconds(row["compressed"]["p50_ms"]), speed_change(row))


def _charts(comparison: Comparison, key: str) -> tuple[list[Chart], dict[str, set[int]]]:
    """Return a chart of the scores against size and one per device against latency, and the numbers on each front."""
    scored = [(number, run, run.score) for number, run in enumerate(comparison.runs, 1) if run.score is not None]
    before = comparison.quality["original"]
    name = "Accuracy" if comparison.quality["metric"] == ACCURACY else capital(comparison.quality["metric"])
    share = comparison.quality["metric"] != COSINE
    sets: list[tuple[str, Axes, list[Point], float]] = [
        (
            "size",
            Axes(f"{key}-size", f"{name} against size", "bytes", units.bytes_text, "", share, f"{key}-table"),
            [Point(str(number), run.name, run.bytes, score) for number, run, score in scored],
            comparison.original_bytes,
        )
    ]
    for place, device in enumerate(comparison.devices):
        timed = [(number, run, score, run.latency(device)) for number, run, score in scored]
        where = f"On {device_text(device)}."
        on = f", {device_text(device)}" if len(comparison.devices) > 1 else ""
        sets.append(
            (
                "latency" if len(comparison.devices) == 1 else f"latency {place + 1}",
                Axes(
                    f"{key}-latency-{place}",
                    f"{name} against latency{on}",
                    "milliseconds",
                    units.milliseconds,
                    where,
                    share,
                    f"{key}-table",
                ),
                [Point(str(n), run.name, row["compressed"]["p50_ms"], score) for n, run, score, row in timed if row],
                comparison.original_ms(device),
            )
        )
    charts, best = [], {}
    for what, axes, found, cost in sets:
        if not found:
            continue
        points = found if before is None else [*found, Point("", "original", cost, before)]
        charts.append(front_chart(points, axes))
        front = pareto_front([(point.cost, point.score) for point in points])
        best[what] = {int(points[index].number) for index in front if points[index].number}
    return charts, best
