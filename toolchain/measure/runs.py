"""Every run of a folder, compared: which are the best at their size and at their speed."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from toolchain.bench.rows import HERE
from toolchain.errors import ReportError
from toolchain.measure.schema import read_report
from toolchain.measure.verdict import how_run

REPORT = "report.json"
PAGE = "report.html"

Device = tuple[str, str, str, int, int, str]  # host, device, provider, threads, batch, transfers


@dataclass(frozen=True)
class Run:
    """One report among others.

    Attributes:
        name: its folder, seen from the one that was searched; the name of that one where it lies there.
        path: of its ``report.json``.
        report: the document.
    """

    name: str
    path: Path
    report: Mapping[str, Any]

    @property
    def says(self) -> str:
        """What was done, in a sentence."""
        return "; ".join(step["says"] for step in self.report["plan"])

    @property
    def bytes(self) -> int:
        """Size of the compressed file."""
        return int(self.report["size"]["compressed_bytes"])

    @property
    def score(self) -> float | None:
        """The metric of the compressed model."""
        score: float | None = self.report["quality"]["compressed"]
        return score

    def latency(self, device: Device) -> Mapping[str, Any] | None:
        """Return what was measured on a device, the last where it was measured again; None where nothing was."""
        rows = [row for row in self.report["latency"] if "error" not in row and device_of(row) == device]
        return rows[-1] if rows else None


@dataclass
class Comparison:
    """Runs that may be compared: of one original model, judged by one metric on the same samples."""

    model: str
    quality: Mapping[str, Any]
    original_bytes: int
    runs: list[Run] = field(default_factory=list)

    @property
    def devices(self) -> list[Device]:
        """Where runs were measured, those of most runs first."""
        found = [device_of(row) for run in self.runs for row in run.report["latency"] if "error" not in row]
        return sorted(dict.fromkeys(found), key=lambda device: -found.count(device))

    def original_ms(self, device: Device) -> float:
        """Return the median, over runs, of what the original took on a device."""
        rows = [row for run in self.runs if (row := run.latency(device)) is not None]
        return float(statistics.median(row["original"]["p50_ms"] for row in rows))


def device_of(row: Mapping[str, Any]) -> Device:
    """Return what must be the same for two latencies to be compared."""
    return (
        row.get("host", HERE),
        row["device"],
        row["provider"],
        row["threads"],
        row["batch"],
        row.get("transfers", "in"),
    )


def device_text(device: Device) -> str:
    """Return a device as a reader knows it."""
    host, name, *run = device
    return f"{host}, {name}, {how_run(dict(zip(('provider', 'threads', 'batch', 'transfers'), run, strict=True)))}"


def find_runs(folder: Path) -> tuple[list[Run], list[ReportError]]:
    """Return the runs whose ``report.json`` lies in ``folder`` or below it, and why others cannot be read.

    Raises:
        ReportError: there is no report that can be read.
    """
    runs, skipped = [], []
    for path in sorted(folder.rglob(REPORT)):
        try:
            runs.append(Run(_name(path.parent, folder), path, read_report(path)))
        except ReportError as error:
            skipped.append(error)
    if not runs:
        found = f"none of {len(skipped)} can be read; {skipped[0]}" if skipped else "there is none"
        raise ReportError(
            f"no report of a run in {folder} or below it: {found}",
            hint=skipped[0].hint if skipped else "compress a model with --report FOLDER below it first",
        )
    return runs, skipped


def _name(place: Path, folder: Path) -> str:
    return folder.resolve().name if place == folder else place.relative_to(folder).as_posix()


def compare(runs: Iterable[Run]) -> list[Comparison]:
    """Return the runs in groups that may be compared, in the order in which they come; smallest file first in each."""
    groups: dict[tuple[object, ...], Comparison] = {}
    for run in runs:
        model, quality = run.report["model"], run.report["quality"]
        # The same file may have been given by another path.
        source = PurePath(quality.get("source", "")).name
        key = (model["sha256"], source, *(quality[part] for part in ("metric", "data", "samples")))
        if key not in groups:
            size = run.report["size"]["original_bytes"]
            groups[key] = Comparison(PurePath(model["path"]).name, quality, size)
        groups[key].runs.append(run)
    for group in groups.values():
        group.runs.sort(key=lambda run: (run.bytes, run.name))
    return list(groups.values())


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the points that none beats, from the cheapest on.

    Args:
        points: cost, which should be small, and score, which should be large, of each. A point is beaten by one that
            costs no more and scores no less, and is better in one of both.
    """
    order = sorted(range(len(points)), key=lambda index: (points[index][0], -points[index][1]))
    front: list[int] = []
    for index in order:
        if not front or points[index][1] > points[front[-1]][1] or points[index] == points[front[-1]]:
            front.append(index)
    return front
