"""Judges a report by gates: a figure that was not measured fails, and a noisy one is judged by its worse end.

How good the model is, its size and its memory are judged by the figure itself: the same files on the same samples give
the same one again. A latency does not, so the end of its 95 % confidence interval that is worse for the gate decides.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from toolchain.bench.rows import HERE
from toolchain.gates.limits import LIMITS, Gates
from toolchain.measure.quality import ACCURACY, AGREEMENT
from toolchain.measure.verdict import how_run, short_provider

Report = Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What became of one gate, on one device where it is about speed or memory.

    Attributes:
        gate: its name, such as ``"max_size"``.
        unit: of the figures: ``"bytes"``, ``"ms"``, ``"factor"``, ``"points"`` or ``"percent"``.
        asked: the threshold.
        passed: whether it is met.
        measured: the figure; None where there is none.
        interval: its 95 % confidence interval, where there is one.
        about: what was measured: the metric and its samples, or the device and how it ran.
        why: why there is no figure, or what else to know; may be empty.
    """

    gate: str
    unit: str
    asked: float
    passed: bool
    measured: float | None = None
    interval: tuple[float, float] | None = None
    about: str = ""
    why: str = ""


@dataclass(frozen=True)
class _Figure:
    """A measured figure, or why there is none."""

    value: float | None = None
    interval: tuple[float, float] | None = None
    about: str = ""
    why: str = ""


def judge(report: Report, gates: Gates) -> list[Outcome]:
    """Return an outcome for every gate that is asked for; one per device for those of speed and memory.

    Args:
        report: the document of a report, its schema checked.
        gates: what is asked.
    """
    return [
        _outcome(limit, asked, figure)
        for limit, asked in gates.asked.items()
        for figure in _figures(limit, report, gates.device)
    ]


def _figures(limit: str, report: Report, device: str | None) -> Iterable[_Figure]:
    if limit in _OF_MODEL:
        return [_OF_MODEL[limit](report)]
    rows = report["latency"]
    chosen = rows if device is None else matching_rows(rows, device)
    if not chosen:
        return [_Figure(why=_no_device(rows, device))]
    return [_OF_DEVICE[limit](row) for row in chosen]


def matching_rows(rows: Sequence[Mapping[str, Any]], device: str) -> list[Mapping[str, Any]]:
    """Return the rows whose host, device or provider is called so; else those whose host or device has it in its name.

    Case does not matter.
    """
    wanted = device.strip().lower()
    exact = [row for row in rows if wanted in {name.lower() for name in _names(row)}]
    return exact or [row for row in rows if any(wanted in name.lower() for name in _names(row)[:2])]


def _names(row: Mapping[str, Any]) -> list[str]:
    return [str(row.get("host", HERE)), str(row["device"]), str(row["provider"]), short_provider(str(row["provider"]))]


def _no_device(rows: Sequence[Mapping[str, Any]], device: str | None) -> str:
    if not rows:
        return "the report has no latency of any device"
    known = dict.fromkeys(f"{host} ({name}, {short})" for host, name, _, short in map(_names, rows))
    return f"no device {device!r} in the report, it has {', '.join(known)}"


def _outcome(limit: str, asked: float, figure: _Figure) -> Outcome:
    unit, at_most = LIMITS[limit].metadata["unit"], limit.startswith("max")
    passed = False
    if figure.value is not None:
        ends = figure.interval if limit in _BY_INTERVAL and figure.interval is not None else (figure.value,) * 2
        passed = ends[1] <= asked if at_most else ends[0] >= asked
    return Outcome(limit, unit, asked, passed, figure.value, figure.interval, figure.about, figure.why)


def _number(value: object) -> float | None:
    """Return a finite number, None for whatever else a document may have in its place."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _interval(value: object) -> tuple[float, float] | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    low, high = _number(value[0]), _number(value[1])
    return None if low is None or high is None or low > high else (low, high)


def _share(value: float, digits: int = 6) -> float:
    """Return a share of one in percent, without the last digits that the subtraction of two shares made up."""
    return round(100 * value, digits)


def _drop(report: Report) -> _Figure:
    quality = report["quality"]
    drop = _number(quality["drop"])
    about = f"{quality['metric']} on {quality['samples']:,} samples"
    if quality["metric"] not in {ACCURACY, AGREEMENT} or drop is None:
        return _Figure(why="no output of the model holds class scores, so neither accuracy nor agreement was measured")
    if quality["data"] == "synthetic":
        return _Figure(why="no data were given: what is lost on synthesised inputs says nothing about real ones")
    interval = _interval(quality.get("drop_ci95"))
    shares = None if interval is None else (_share(interval[0]), _share(interval[1]))
    return _Figure(_share(drop), shares, about)


def _accuracy(report: Report) -> _Figure:
    quality = report["quality"]
    accuracy = _number(quality["compressed"])
    if quality["metric"] != ACCURACY or quality["data"] == "synthetic" or accuracy is None:
        return _Figure(why="accuracy was not measured: that takes labelled data")
    return _Figure(_share(accuracy), None, f"{quality['metric']} on {quality['samples']:,} samples")


def _size(report: Report) -> _Figure:
    return _positive(report["size"]["compressed_bytes"], "the compressed file")


def _ratio(report: Report) -> _Figure:
    return _positive(report["size"]["ratio"], "bytes of the file, original to compressed")


def _positive(value: object, about: str) -> _Figure:
    found = _number(value)
    if found is None or found <= 0:
        return _Figure(why=f"the report has {value!r} for it")
    return _Figure(found, None, about)


def _speedup(row: Mapping[str, Any]) -> _Figure:
    return _timed(row, row.get("speedup"), row.get("speedup_ci95"))


def _latency(row: Mapping[str, Any]) -> _Figure:
    compressed = _inside(row, "compressed")
    return _timed(row, compressed.get("p50_ms"), compressed.get("p50_ci95_ms"))


def _timed(row: Mapping[str, Any], value: object, ends: object) -> _Figure:
    """Return a figure of time, which counts only with its confidence interval."""
    about, found, interval = _how(row), _number(value), _interval(ends)
    if "error" in row:
        return _Figure(about=about, why=str(row["error"]))
    if found is None or found <= 0:
        return _Figure(about=about, why="the report has no such figure")
    if interval is None:
        return _Figure(about=about, why="the report has no confidence interval for it, measure again")
    noise = str(row.get("noise") or "this device was too noisy to tell")
    return _Figure(found, interval, about, noise if row.get("noisy") is True else "")


def _memory(row: Mapping[str, Any]) -> _Figure:
    found = _number(_inside(_inside(row, "memory"), "compressed").get("peak_bytes"))
    if found is None or found <= 0:
        why = str(row["error"]) if "error" in row else "memory was not measured there: compress bench measures it"
        return _Figure(about=_how(row), why=why)
    return _Figure(found, None, _how(row))


def _inside(row: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = row.get(key)
    return found if isinstance(found, Mapping) else {}


def _how(row: Mapping[str, Any]) -> str:
    """Return where and how a row was measured: ``pi, CPU, 4 threads, batch 1``."""
    host = row.get("host", HERE)
    return how_run(row) if host == HERE else f"{host}, {how_run(row)}"


_OF_MODEL: Mapping[str, Callable[[Report], _Figure]] = {
    "max_drop": _drop,
    "min_accuracy": _accuracy,
    "max_size": _size,
    "min_ratio": _ratio,
}
_OF_DEVICE: Mapping[str, Callable[[Mapping[str, Any]], _Figure]] = {
    "min_speedup": _speedup,
    "max_latency": _latency,
    "max_memory": _memory,
}
_BY_INTERVAL = ("min_speedup", "max_latency")  # another measurement gives another figure
