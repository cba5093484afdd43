"""What was gained in bytes, and what was lost for it."""

from collections.abc import Iterator, Mapping
from typing import Any

from toolchain import units
from toolchain.measure.quality import ACCURACY, AGREEMENT
from toolchain.measure.verdict.findings import Finding, Report, finding

NOTABLE_GZIP = 1.1


def real_accuracy_missing(report: Report) -> bool:
    """Tell whether nothing in the report says how accurate the model is on real labelled data."""
    quality = report["quality"]
    return bool(quality["data"] == "synthetic" or quality["metric"] != ACCURACY)


def unmeasured_accuracy(report: Report) -> Iterator[Finding]:
    """Say first where nothing is known of the accuracy on real data."""
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
    yield finding("accuracy on real data was not measured", why, hint)


def size(report: Report) -> Iterator[Finding]:
    """Say how much smaller the file is."""
    size, weights = report["size"], report["weights"]
    change = f"{units.bytes_text(size['original_bytes'])} to {units.bytes_text(size['compressed_bytes'])}"
    if size["ratio"] <= 1:
        yield finding(
            f"the file is not smaller: {change}",
            "what was removed from the weights takes less than what the graph gained",
            "ask for a higher ratio or fewer bits",
        )
        return
    why = f"{weights['nonzero']:,} of {weights['total']:,} weights are nonzero"
    if weights["bits_per_weight"] is not None:
        why += f"; the file spends {units.significant(weights['bits_per_weight'])} bits per original weight"
    yield finding(f"the file is {units.times(size['ratio'])} smaller: {change}", why)


def gzip(report: Report) -> Iterator[Finding]:
    """Say where gzip still finds something in the compressed file."""
    size = report["size"]
    further = size["compressed_bytes"] / size["gzip_compressed_bytes"]
    if further >= NOTABLE_GZIP:
        yield finding(
            f"gzip makes the compressed file another {units.times(further)} smaller",
            f"{units.bytes_text(size['compressed_bytes'])} to {units.bytes_text(size['gzip_compressed_bytes'])}; "
            f"the original alone gains {units.times(size['original_bytes'] / size['gzip_original_bytes'])}",
            "send it gzipped where bytes on the wire count",
        )


def accuracy(report: Report) -> Iterator[Finding]:
    """Judge the drop of accuracy by its interval."""
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
        yield finding("no measurable change of accuracy", why, _more_samples(quality["samples"]))
    elif high < 0:
        yield finding(f"accuracy rose by {units.points(quality['drop'])}", why)
    else:
        yield finding(f"accuracy fell by {units.points(quality['drop'])}", why, _gentler(report))


def _more_samples(samples: int) -> str:
    return "" if samples >= 1000 else "evaluate on more samples to tell smaller differences"


def _gentler(report: Report) -> str:
    """Return what loses less, of what the command that made the report could have asked for."""
    steps = {step.get("step"): step for step in report["plan"]}
    hints = [_longer(steps.get("train", {}))]
    if "prune" in steps:
        structures = [group["structure"] for group in steps["prune"]["groups"]]
        for_speed = steps["prune"]["allocate"] in ("auto", "flops", "ms")
        if for_speed and any(structure.startswith("groups") for structure in structures):
            hints.append("prune where it loses least, which saves less time, by --allocate parameters")
        if any(":" not in structure for structure in structures):  # 2:4 says by itself how much
            hints.append("ask for a lower ratio")
    if "quantize" in steps:
        hints.append("ask for more bits")
    if report["quality"]["data"] != "task":
        hints.append("give labelled data")
    return ", or ".join(hints)


def _longer(train: Mapping[str, Any]) -> str:
    if train.get("epochs") == 0:
        return "train, which --epochs 0 leaves out"
    return "train for longer with --budget" if train.get("budget_s") is not None else "train for more epochs"


def agreement(report: Report) -> Iterator[Finding]:
    """Say how often the original's class is chosen, where there are no labels."""
    quality = report["quality"]
    if quality["metric"] != AGREEMENT:
        return
    kind = "synthesised inputs" if quality["data"] == "synthetic" else "held-out samples"
    yield finding(
        f"it chooses the original's class on {units.percent(quality['compressed'])} of {kind}",
        f"measured on {quality['samples']:,} samples",
        _gentler(report) if quality["compressed"] < 0.98 else "",
    )
