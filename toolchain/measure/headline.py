"""The few figures that a reader looks for first."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from toolchain import units
from toolchain.measure.quality import ACCURACY, AGREEMENT
from toolchain.measure.summary import speed_text
from toolchain.measure.verdict import how_run

NOTABLE_DROP = 0.01  # an accuracy or agreement that falls by more is marked

Tone = Literal["good", "warn", ""]


@dataclass(frozen=True)
class Tile:
    """One figure in large type.

    Attributes:
        label: what it is.
        figure: the number.
        unit: what follows it in smaller type.
        detail: what it is made of.
        tone: whether it is good news, a warning, or neither.
    """

    label: str
    figure: str
    unit: str
    detail: str
    tone: Tone = ""


def headline(report: Mapping[str, Any]) -> list[Tile]:
    """Return a tile each for size, speed, quality and weights; one that was not measured says so."""
    return [_size(report["size"]), _speed(report["latency"]), _quality(report["quality"]), _weights(report["weights"])]


def _size(size: Mapping[str, Any]) -> Tile:
    figure, unit = units.smaller(size["ratio"]).split(" ")
    detail = f"{units.bytes_text(size['original_bytes'])} → {units.bytes_text(size['compressed_bytes'])}"
    return Tile("File", figure, unit, detail, "good" if size["ratio"] > 1 else "warn")


def _speed(rows: list[Mapping[str, Any]]) -> Tile:
    row = next((row for row in rows if "error" not in row), None)
    if row is None:
        return Tile("Speed", "-", "", "not measured", "warn")
    where = how_run(row)
    low, high = row["speedup_ci95"]
    times = f"{units.milliseconds(row['original']['p50_ms'])} → {units.milliseconds(row['compressed']['p50_ms'])}"
    if low <= 1 <= high:
        unit = "too noisy to tell" if row.get("noisy") else "no difference"
        return Tile(f"Speed, {where}", f"{row['speedup']:.2f}x", unit, times)
    figure, unit = speed_text(row["speedup"]).split(" ")
    return Tile(f"Speed, {where}", figure, unit, times, "good" if row["speedup"] > 1 else "warn")


def _quality(quality: Mapping[str, Any]) -> Tile:
    synthetic = ", synthetic inputs" if quality["data"] == "synthetic" else ""
    if quality["compressed"] is None:
        return Tile(quality["metric"].capitalize() + synthetic, "-", "", "not defined", "warn")
    tone: Tone = "warn" if synthetic else _tone(quality)
    samples = f"{quality['samples']:,} samples"
    if quality["metric"] == ACCURACY:
        change = 0.0 - 100 * quality["drop"]
        sides = f"{units.percent(quality['original'])} → {units.percent(quality['compressed'])}"
        return Tile("Accuracy", f"{change:+.2f}", "points", f"{sides}, {samples}", tone)
    if quality["metric"] == AGREEMENT:
        figure = units.percent(quality["compressed"])
        return Tile(f"Same class as the original{synthetic}", figure, "", samples, tone)
    return Tile(f"Cosine similarity{synthetic}", f"{quality['compressed']:.4f}", "", samples, tone)


def _tone(quality: Mapping[str, Any]) -> Tone:
    """Return good where nothing was measurably lost, and a warning where more than a point was."""
    if quality["drop"] > NOTABLE_DROP:
        return "warn"
    lost = quality["drop_ci95"][0] > 0 if "drop_ci95" in quality else quality["drop"] > 0
    return "" if lost else "good"


def _weights(weights: Mapping[str, Any]) -> Tile:
    bits = weights["bits_per_weight"]
    kept = f"{weights['nonzero']:,} of {weights['total']:,} nonzero"
    if bits is None:
        return Tile("Weights", "-", "", "none that can be pruned or quantized")
    return Tile("Weights", units.significant(bits), "bits each, stored", kept, "good" if bits < 32 else "")
