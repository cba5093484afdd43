"""How fast it is, why it is not faster where it is not, and what was measured to help."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from toolchain import units
from toolchain.bench.layers import family
from toolchain.bench.rows import HERE
from toolchain.measure.verdict.findings import Finding, Report, finding, short_provider

Row = Mapping[str, Any]

SAME_LATENCY = 0.02  # a difference that is certain but this small changes nothing for anybody
# Of this an eighth is the call alone: a single Relu of 8 values takes 0.005 ms (onnxruntime 1.31, one thread).
OVERHEAD_MS = 0.04
NOTABLE_LOAD_MS = 5.0
NOTABLE_SHARE = 0.3  # of the time, in operators without weights
NAMED_SHARE = 0.05  # of an operator that is named among them
NOTABLE_ZEROS = 1.1  # weights over nonzero weights: rounding makes some zeros as well
NOTABLE_SLOWDOWN = 1.05  # of a kernel that was left off, in a layer alone
NAMED_OPERATORS = 3

OVERHEAD = "so short a run is in good part the runtime's own overhead, which no compression touches"

# Families of operators whose time weights decide, so that compression can change it.
WEIGHTED = ("ConvTranspose", "Conv", "MatMul", "LSTM", "GRU", "RNN")


def is_faster(row: Row) -> bool:
    """Tell whether a measured row of the latency section shows a speedup that is certain and worth a word."""
    return bool(row["speedup_ci95"][0] > 1 and row["speedup"] > 1 + SAME_LATENCY)


def is_overhead(row: Row) -> bool:
    """Tell whether a run of the original is so short that the runtime's own overhead is a good part of it."""
    return bool(row["original"]["p50_ms"] < OVERHEAD_MS)


def latency(report: Report) -> Iterator[Finding]:
    """Say of every device how much faster it is; where it is not, why, and what was tried instead."""
    for row in report["latency"]:
        where = _place(row, report["latency"])
        if "error" in row:
            yield finding(f"latency on {where} was not measured", row["error"])
            continue
        low, high = row["speedup_ci95"]
        figures = (
            f"p50 {units.milliseconds(row['original']['p50_ms'])} to "
            f"{units.milliseconds(row['compressed']['p50_ms'])}, speedup {row['speedup']:.2f} "
            f"(95 % confidence {low:.2f} to {high:.2f})"
        )
        if is_faster(row):
            yield finding(f"{units.times(row['speedup'])} faster on {where}", f"{figures}; {_kernels(report)}")
            continue
        if high < 1 and row["speedup"] < 1 - SAME_LATENCY:
            claim = f"slower on {where}: it takes {units.times(1 / row['speedup'])} the time"
        elif low <= 1 <= high:
            claim = f"not faster on {where}: no measurable difference"
        else:
            claim = f"not faster on {where}: the difference is {100 * abs(row['speedup'] - 1):.1f} %"
        noise = f"; {row['noise']}" if row.get("noise") else ""
        why = OVERHEAD if is_overhead(row) else _why_not_faster(report)
        yield finding(claim, f"{figures}{noise}; {why}", _what_helps(report, row))


def _place(row: Row, rows: Sequence[Row]) -> str:
    """Return where a row was measured, with as much as tells it from the others."""
    host = row.get("host", HERE)
    where = short_provider(row["provider"]) + ("" if host == HERE else f" of {host}")
    alike = [other for other in rows if (other.get("host", HERE), other["provider"]) == (host, row["provider"])]
    if len(alike) > 1:
        where += f" ({row['threads']} thread{'s' * (row['threads'] > 1)}, batch {row['batch']})"
    return where


def _kernels(report: Report) -> str:
    tensors = report["weights"]["tensors"]
    counts = Counter(tensor["kernel"] for tensor in tensors)
    shrunk = sum(tensor["new_shape"] != tensor["shape"] for tensor in tensors)
    said = "kernels of the weights: " + ", ".join(f"{count} {kernel}" for kernel, count in counts.most_common())
    return said + (f"; {shrunk} of them in smaller shapes" if shrunk else "")


def _why_not_faster(report: Report) -> str:
    """Return why nothing was gained: that follows from kernels and structure alone."""
    weights = report["weights"]
    tensors = weights["tensors"]
    if any(tensor["kernel"] != "float" for tensor in tensors):
        return f"what the low-bit kernels save does not outweigh the rest of the graph ({_kernels(report)})"
    structures = Counter(tensor["structure"] for tensor in tensors if tensor["structure"] != "dense")
    if structures and (weights["ratio"] is None or weights["ratio"] >= NOTABLE_ZEROS):
        (structure, _), *_ = structures.most_common()
        ratio = f"{units.times(weights['ratio'])} " if weights["ratio"] else ""
        return f"{ratio}{structure} zeros: ONNX Runtime has no kernel for them, and multiplies them like any value"
    timed = {kernel for tensor in tensors for kernel in tensor.get("kernel_ms") or {}} - {"float"}
    others = f", because {' and '.join(sorted(timed))} did not make the whole model faster" if timed else ""
    return f"every weight still runs in a float kernel{others}"


def _what_helps(report: Report, row: Row) -> str:
    """Return what the trials say on this machine's CPU; elsewhere nothing was tried."""
    if row.get("host", HERE) != HERE or short_provider(row["provider"]) != "CPU":
        return ""
    measured = [trial for trial in report.get("trials", ()) if "error" not in trial]
    helped = sorted((trial for trial in measured if is_faster(trial)), key=lambda trial: -trial["speedup"])
    others = [trial for trial in measured if not is_faster(trial)]
    said = []
    if helped:
        listed = ", ".join(f"{trial['options']} {_measured(trial)}" for trial in helped)
        said.append(f"faster here, tried without training, so that their accuracy is not known: {listed}")
    if others:
        listed = ", ".join(f"{trial['options']} {_measured(trial)}" for trial in others)
        said.append(f"tried, and no faster here: {listed}")
    failed = [trial for trial in report.get("trials", ()) if "error" in trial]
    said += [f"{trial['options']} {trial['error']}" for trial in failed if not helped]
    return "; ".join(said)


def _measured(trial: Row) -> str:
    low, high = trial["speedup_ci95"]
    return f"{trial['speedup']:.2f}x ({low:.2f} to {high:.2f})"


def kernels_left_off(report: Report) -> Iterator[Finding]:
    """Say which low-bit kernels were possible and left off, because they were measured to be slower."""
    slower: dict[tuple[str, str], list[float]] = {}
    for tensor in report["weights"]["tensors"]:
        times = tensor.get("kernel_ms") or {}
        chosen = times.get(tensor["kernel"])
        for kernel, took in times.items():
            if tensor["kernel"] == "float" and chosen and took > NOTABLE_SLOWDOWN * chosen:
                slower.setdefault((kernel, _kind(tensor)), []).append(took / chosen)
    for (kernel, kind), ratios in slower.items():
        low, high = units.times(min(ratios)), units.times(max(ratios))
        span = low if low == high else f"{low} to {high}"
        count = f"{len(ratios)} {kind}" + "s" * (len(ratios) > 1)
        yield finding(f"{kernel} left off in {count}: slower by {span}", "each layer timed alone, against float")


def _kind(tensor: Row) -> str:
    """Return what a layer is called: ``depthwise convolution``."""
    if "Conv" not in tensor["op"]:
        return f"{tensor['op']} layer"
    groups, shape = tensor.get("groups", 1), tensor["shape"]
    depthwise = groups > 1 and shape[1] == 1
    return "depthwise convolution" if depthwise else "grouped convolution" if groups > 1 else "convolution"


def untouched_time(report: Report) -> Iterator[Finding]:
    """Say where most of the time is spent now, if that is in operators that no compression of weights touches."""
    for row in report["latency"]:
        if "error" in row or not row.get("layers"):
            continue
        before, after = _by_operator(row["layers"], "original_ms"), _by_operator(row["layers"], "compressed_ms")
        whole = sum(after.values())
        rest = {op: took for op, took in after.items() if op not in WEIGHTED and op in before}
        rest = {op: took for op, took in rest.items() if took >= NAMED_SHARE * whole}
        if not rest or sum(rest.values()) < NOTABLE_SHARE * whole:
            continue
        named = sorted(rest, key=lambda op: -rest[op])[:NAMED_OPERATORS]
        operators = " and ".join([", ".join(named[:-1]), named[-1]] if len(named) > 1 else named)
        share = f"{100 * sum(rest[op] for op in named) / whole:.0f} %"
        took = ", ".join(f"{op} {units.milliseconds(rest[op])} ({100 * rest[op] / whole:.0f} %)" for op in named)
        where = _place(row, report["latency"])
        yield finding(
            f"{share} of the time on {where} is now in {operators}, which no compression of weights touches",
            f"by the runtime's profile: {took}, of {units.milliseconds(whole)} in all nodes",
        )


def _by_operator(layers: Sequence[Row], side: str) -> dict[str, float]:
    """Return the milliseconds of every kind of operator on one side, without those that take none."""
    total: dict[str, float] = {}
    for layer in layers:
        if layer[side]:
            operator = layer["op"].split(" -> ")[0 if side == "original_ms" else -1]
            total[family(operator)] = total.get(family(operator), 0.0) + layer[side]
    return total


def load(report: Report) -> Iterator[Finding]:
    """Say what loading costs or saves, where that is much."""
    for row in report["latency"]:
        if "error" in row:
            continue
        before, after = row["load_ms"]["original"], row["load_ms"]["compressed"]
        if abs(after - before) < NOTABLE_LOAD_MS:
            continue
        where = _place(row, report["latency"])
        change = f"{units.milliseconds(before)} to {units.milliseconds(after)}"
        if after < before:
            yield finding(f"loading on {where} takes {units.milliseconds(before - after)} less", change)
            continue
        decoded = sum(tensor["encoding"] != "dense" for tensor in report["weights"]["tensors"])
        tensors = "1 weight tensor is" if decoded == 1 else f"{decoded} weight tensors are"
        why = f"{change}; {tensors} decoded at load" if decoded else change
        hint = "create the session once and keep it" if decoded else ""
        yield finding(f"loading on {where} takes {units.milliseconds(after - before)} longer", why, hint)
