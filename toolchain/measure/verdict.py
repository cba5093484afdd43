"""What the figures mean, in sentences: only from what is in the report, good news and bad alike."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from toolchain.measure import units
from toolchain.measure.quality import ACCURACY, AGREEMENT

Report = Mapping[str, Any]
Finding = dict[str, str]

SAME_LATENCY = 0.02  # a difference that is certain but this small changes nothing for anybody
NOTABLE_LOAD_MS = 5.0
NOTABLE_GZIP = 1.1

SHORT_PROVIDERS = {
    "CPUExecutionProvider": "CPU",
    "CUDAExecutionProvider": "CUDA",
    "TensorrtExecutionProvider": "TensorRT",
}


def verdict_section(report: Report) -> list[Finding]:
    """Return the findings ``{claim, why, hint}`` on a report's measured sections; a hint may be empty."""
    return [finding for rule in RULES for finding in rule(report)]


def short_provider(name: str) -> str:
    """Return the name that a reader knows: ``CPU`` for ``CPUExecutionProvider``."""
    return SHORT_PROVIDERS.get(name, name)


def real_accuracy_missing(report: Report) -> bool:
    """Tell whether nothing in the report says how accurate the model is on real labelled data."""
    quality = report["quality"]
    return bool(quality["data"] == "synthetic" or quality["metric"] != ACCURACY)


def _finding(claim: str, why: str, hint: str = "") -> Finding:
    return {"claim": claim, "why": why, "hint": hint}


def _size(report: Report) -> Iterator[Finding]:
    size, weights = report["size"], report["weights"]
    change = f"{units.bytes_text(size['original_bytes'])} to {units.bytes_text(size['compressed_bytes'])}"
    if size["ratio"] <= 1:
        yield _finding(
            f"the file is not smaller: {change}",
            "what was removed from the weights takes less than what the graph gained",
            "ask for a higher ratio or fewer bits",
        )
        return
    why = f"{weights['nonzero']:,} of {weights['total']:,} weights are nonzero"
    if weights["bits_per_weight"] is not None:
        why += f"; the file spends {units.significant(weights['bits_per_weight'])} bits per original weight"
    yield _finding(f"the file is {units.times(size['ratio'])} smaller: {change}", why)


def _gzip(report: Report) -> Iterator[Finding]:
    size = report["size"]
    further = size["compressed_bytes"] / size["gzip_compressed_bytes"]
    if further >= NOTABLE_GZIP:
        yield _finding(
            f"gzip makes the compressed file another {units.times(further)} smaller",
            f"{units.bytes_text(size['compressed_bytes'])} to {units.bytes_text(size['gzip_compressed_bytes'])}; "
            f"the original alone gains {units.times(size['original_bytes'] / size['gzip_original_bytes'])}",
            "send it gzipped where bytes on the wire count",
        )


def _accuracy(report: Report) -> Iterator[Finding]:
    quality = report["quality"]
    if quality["metric"] != ACCURACY:
        return
    low, high = quality["drop_ci95"]
    span = f"95 % confidence {100 * low:+.2f} to {100 * high:+.2f} points lost"
    why = (
        f"{units.percent(quality['original'])} to {units.percent(quality['compressed'])} "
        f"on {quality['samples']:,} samples; {span}"
    )
    if low <= 0 <= high:
        yield _finding("no measurable change of accuracy", why, _more_samples(quality["samples"]))
    elif high < 0:
        yield _finding(f"accuracy rose by {units.points(quality['drop'])}", why)
    else:
        yield _finding(f"accuracy fell by {units.points(quality['drop'])}", why, _gentler(report))


def _more_samples(samples: int) -> str:
    return "" if samples >= 1000 else "evaluate on more samples to tell smaller differences"


def _gentler(report: Report) -> str:
    hints = ["train for more epochs", "ask for a lower ratio or more bits"]
    if report["quality"]["data"] != "task":
        hints.append("give labelled data")
    return ", or ".join(hints)


def _unmeasured_accuracy(report: Report) -> Iterator[Finding]:
    quality = report["quality"]
    if not real_accuracy_missing(report):
        return
    if quality["data"] == "synthetic":
        why = "no data were given; inputs were synthesised from the model itself and need not resemble real ones"
        hint = "give representative inputs with --data, with labels if there are any"
    elif quality["data"] == "unlabelled":
        why, hint = "the data have no labels", "give labelled data with --data or --eval"
    else:
        why, hint = "no output of the model holds class scores", "judge the fidelity figures, or run your own metric"
    yield _finding("accuracy on real data was not measured", why, hint)


def _agreement(report: Report) -> Iterator[Finding]:
    quality = report["quality"]
    if quality["metric"] != AGREEMENT:
        return
    kind = "synthesised inputs" if quality["data"] == "synthetic" else "held-out samples"
    yield _finding(
        f"it chooses the original's class on {units.percent(quality['compressed'])} of {kind}",
        f"measured on {quality['samples']:,} samples",
        _gentler(report) if quality["compressed"] < 0.98 else "",
    )


def _latency(report: Report) -> Iterator[Finding]:
    for row in report["latency"]:
        where = short_provider(row["provider"])
        if "error" in row:
            yield _finding(f"latency on {where} was not measured", row["error"], "")
            continue
        low, high = row["speedup_ci95"]
        figures = (
            f"p50 {units.milliseconds(row['original']['p50_ms'])} to "
            f"{units.milliseconds(row['compressed']['p50_ms'])}, speedup {row['speedup']:.2f} "
            f"(95 % confidence {low:.2f} to {high:.2f})"
        )
        if low > 1 and row["speedup"] > 1 + SAME_LATENCY:
            yield _finding(f"{units.times(row['speedup'])} faster on {where}", f"{figures}; {_kernels(report)}")
            continue
        why, hint = _why_not_faster(report)
        if high < 1 and row["speedup"] < 1 - SAME_LATENCY:
            claim = f"slower on {where}: it takes {units.times(1 / row['speedup'])} the time"
        elif low <= 1 <= high:
            claim = f"not faster on {where}: no measurable difference"
        else:
            claim = f"not faster on {where}: the difference is {100 * abs(row['speedup'] - 1):.1f} %"
        yield _finding(claim, f"{figures}; {why}", hint)


def _kernels(report: Report) -> str:
    counts = Counter(tensor["kernel"] for tensor in report["weights"]["tensors"])
    return "kernels of the weights: " + ", ".join(f"{count} {kernel}" for kernel, count in counts.most_common())


def _why_not_faster(report: Report) -> tuple[str, str]:
    """Return why nothing was gained, and what would gain: both follow from kernels and structure alone."""
    tensors = report["weights"]["tensors"]
    if any(tensor["kernel"] != "float" for tensor in tensors):
        return (
            f"what the low-bit kernels save does not outweigh the rest of the graph ({_kernels(report)})",
            "--structure groups shrinks the work itself, where layers are wide enough",
        )
    if any(tensor["structure"] == "unstructured" for tensor in tensors):
        return (
            "no kernel profits from unstructured zeros, they are multiplied like any other value",
            "--structure groups shrinks the work itself, where layers are wide enough",
        )
    return "every weight still runs in a float kernel", "8 bits run faster where the processor has integer kernels"


def _load(report: Report) -> Iterator[Finding]:
    for row in report["latency"]:
        if "error" in row:
            continue
        before, after = row["load_ms"]["original"], row["load_ms"]["compressed"]
        if abs(after - before) < NOTABLE_LOAD_MS:
            continue
        where = short_provider(row["provider"])
        change = f"{units.milliseconds(before)} to {units.milliseconds(after)}"
        if after < before:
            yield _finding(f"loading on {where} takes {units.milliseconds(before - after)} less", change)
            continue
        decoded = sum(tensor["encoding"] != "dense" for tensor in report["weights"]["tensors"])
        why = f"{change}; {decoded} weight tensors are decoded at load" if decoded else change
        hint = "create the session once and keep it" if decoded else ""
        yield _finding(f"loading on {where} takes {units.milliseconds(after - before)} longer", why, hint)


RULES: tuple[Callable[[Report], Iterator[Finding]], ...] = (
    _unmeasured_accuracy,
    _size,
    _accuracy,
    _agreement,
    _latency,
    _load,
    _gzip,
)
