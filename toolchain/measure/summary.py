"""The short table of before and after, from which both the terminal and the page are drawn."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from toolchain import units
from toolchain.bench.rows import HERE
from toolchain.measure.quality import COSINE
from toolchain.measure.verdict import short_provider


@dataclass(frozen=True)
class SummaryRow:
    """One figure before and after, as text."""

    label: str
    before: str
    after: str
    change: str


def summary_rows(report: Mapping[str, Any]) -> list[SummaryRow]:
    """Return the rows: bytes, weights, quality, then latency and load time per provider."""
    return [*_size(report["size"]), *_weights(report["weights"]), _quality(report["quality"]), *_latency(report)]


def _size(size: Mapping[str, Any]) -> Iterator[SummaryRow]:
    for label, before, after, ratio in (
        ("file", size["original_bytes"], size["compressed_bytes"], size["ratio"]),
        ("file, gzipped", size["gzip_original_bytes"], size["gzip_compressed_bytes"], size["gzip_ratio"]),
    ):
        yield SummaryRow(label, units.bytes_text(before), units.bytes_text(after), units.smaller(ratio))


def _weights(weights: Mapping[str, Any]) -> Iterator[SummaryRow]:
    ratio = weights["ratio"]
    change = "none left" if ratio is None else f"{units.times(ratio)} fewer"
    if weights["nonzero"] == weights["total"]:
        change = "all kept"
    yield SummaryRow("nonzero weights", f"{weights['nonzero_original']:,}", f"{weights['nonzero']:,}", change)
    bits = weights["bits_per_weight"]
    if bits:
        yield SummaryRow("bits per weight, stored", "32", units.significant(bits), f"{units.times(32 / bits)} fewer")


def _quality(quality: Mapping[str, Any]) -> SummaryRow:
    label = quality["metric"] + (", synthetic inputs" if quality["data"] == "synthetic" else "")
    if quality["compressed"] is None:
        return SummaryRow(label, "-", "-", "not defined")
    if quality["metric"] == COSINE:
        return SummaryRow(
            label, f"{quality['original']:.4f}", f"{quality['compressed']:.4f}", f"{0.0 - quality['drop']:+.4f}"
        )
    change = f"{0.0 - 100 * quality['drop']:+.2f} points"
    if "drop_ci95" in quality:
        low, high = quality["drop_ci95"]
        change += f" ({0.0 - 100 * high:+.2f} to {0.0 - 100 * low:+.2f})"
    return SummaryRow(label, units.percent(quality["original"]), units.percent(quality["compressed"]), change)


def _latency(report: Mapping[str, Any]) -> Iterator[SummaryRow]:
    for row in report["latency"]:
        where = short_provider(row["provider"])
        if row.get("host", HERE) != HERE:
            where = f"{where} on {row['host']}"
        if "error" in row:
            yield SummaryRow(f"latency, {where}", "-", "-", "not measured")
            continue
        yield SummaryRow(
            f"latency p50, {where}, batch {row['batch']}",
            units.milliseconds(row["original"]["p50_ms"]),
            units.milliseconds(row["compressed"]["p50_ms"]),
            speed_change(row),
        )
        yield _difference(
            f"load, {where}", row["load_ms"]["original"], row["load_ms"]["compressed"], units.milliseconds
        )
        peaks = memory_of(row, "peak_bytes")
        if peaks is not None:
            yield _difference(f"memory in use, {where}", *peaks, units.bytes_text)


def memory_of(row: Mapping[str, Any], figure: str) -> tuple[int, int] | None:
    """Return ``load_bytes`` or ``peak_bytes`` of both models, or None where one was not measured."""
    memory = row.get("memory") or {}
    before, after = (memory.get(side, {}).get(figure) for side in ("original", "compressed"))
    return None if before is None or after is None else (before, after)


def _difference(label: str, before: float, after: float, text: Callable[[float], str]) -> SummaryRow:
    sign = "+" if after >= before else "-"
    return SummaryRow(label, text(before), text(after), f"{sign}{text(abs(after - before))}")


def speed_change(row: Mapping[str, Any]) -> str:
    """Return the speedup of a latency row with its 95 % interval, or that there is none."""
    low, high = row["speedup_ci95"]
    if low <= 1 <= high:
        return f"{'too noisy to tell' if row.get('noisy') else 'no difference'} ({low:.2f} to {high:.2f})"
    if row["speedup"] < 1:
        low, high = 1 / high, 1 / low
    return f"{speed_text(row['speedup'])} ({low:.2f} to {high:.2f})"


def speed_text(speedup: float) -> str:
    """Return a speedup as ``1.60x faster`` or ``2.00x slower``."""
    return f"{speedup:.2f}x faster" if speedup > 1 else f"{1 / speedup:.2f}x slower"
