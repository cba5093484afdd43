"""Figures against those of an earlier bench document: what changed, and what is only noise."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from toolchain.bench.foreign import read_json
from toolchain.bench.measurement import BENCH_SCHEMA, Settings
from toolchain.bench.probe import short_provider
from toolchain.errors import BenchError
from toolchain.validation import load_schema, misfit

SCHEMA = load_schema("toolchain.bench", "document.schema.json")

Verdict = Literal["noise", "machine", "better", "worse", "same"]

# Figures with intervals: name, value, interval, whether more is better, whether the machine's speed is in it.
_TIMED = (
    ("speedup", "speedup", "speedup_ci95", True, False),
    ("p50", "p50_ms", "p50_ci95_ms", False, True),
    ("p90", "p90_ms", "p90_ci95_ms", False, True),
    ("p99", "p99_ms", "p99_ci95_ms", False, True),
    ("load", "load_ms", "load_ci95_ms", False, True),
)
_SMALLEST = 0.01  # changes below 1 % are not worth a reader's time, however sure


@dataclass(frozen=True)
class Change:
    """How one figure changed.

    Attributes:
        case: where, such as ``"cpu, 1 thread, batch 1"``.
        model: whose.
        figure: which.
        before: the earlier figure.
        after: the figure now.
        ratio: after over before.
        ci95: of the ratio; both bounds are the ratio where the figure is exact.
        verdict: ``"noise"``: the interval contains 1; ``"machine"``: the unchanged original changed as well and the
            speedup did not; else ``"better"`` or ``"worse"``, or of exact figures ``"same"``.
    """

    case: str
    model: str
    figure: str
    before: float
    after: float
    ratio: float
    ci95: tuple[float, float]
    verdict: Verdict


def read_document(path: Path) -> dict[str, Any]:
    """Return an earlier bench document.

    Raises:
        BenchError: it cannot be read, is something else, or is of another schema.
    """
    hint = "give what compress bench --json printed"
    try:
        document = read_json(path.read_bytes())
    except OSError as error:
        raise BenchError(f"cannot read {path}: {error.strerror}", hint=hint) from error
    except (ValueError, RecursionError) as error:
        raise BenchError(f"{path} is not JSON: {error}", hint=hint) from error
    if not isinstance(document, dict) or document.get("kind") != "bench":
        raise BenchError(f"{path} is no bench document", hint=hint)
    if document.get("schema") != BENCH_SCHEMA:
        raise BenchError(f"{path} has schema {document.get('schema')}, this version reads {BENCH_SCHEMA}", hint=hint)
    place, why = misfit(SCHEMA, document)
    if why:
        raise BenchError(f"{path}{place} is not what compress bench writes: {why}", hint=hint)
    return dict(document)


def expect(old: Mapping[str, Any], models: Collection[str], settings: Settings) -> None:
    """Check, before minutes are spent, that anything of what is to be measured is in the earlier document.

    Args:
        old: the earlier bench document.
        models: the names that the files will have.
        settings: how they are to be measured.

    Raises:
        BenchError: nothing is.
    """
    there = [case for case in old["cases"] if any(model["name"] in models for model in case["models"])]
    threads = () if 0 in settings.threads else settings.threads  # 0 is every core of a machine that is not known yet
    if not any(
        case["provider"] in settings.providers
        and case["transfers"] == settings.transfers
        and (not threads or case["threads"] in threads)
        and (not settings.batches or case["batch"] in settings.batches)
        for case in there
    ):
        names = ", ".join(model["name"] for model in old["models"])
        cases = "; ".join(dict.fromkeys(map(case_name, old["cases"]))) or "no figures"
        raise BenchError(
            f"the earlier document has nothing of what is to be measured: it is of {names}, with {cases}",
            hint="measure the same models with the same --provider, --threads and --batch",
        )


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[list[Change], list[str]]:
    """Return every figure that both documents have, and sentences about what differs around them.

    Cases are matched by host, provider, threads, batch and transfers, models by name.

    Raises:
        BenchError: the documents have no case of a model in common.
    """
    changes = [*_exact(old, new)]
    earlier = {_key(case): case for case in old["cases"]}
    matched = [(earlier[_key(case)], case) for case in new["cases"] if _key(case) in earlier]
    for before, after in matched:
        changes += _timed(before, after, _same_original(old, new))
    if not any(change.case for change in changes):
        raise BenchError(
            "no figure of the earlier document was measured now: no case of a model is in both",
            hint="measure the same models with the same --provider, --threads and --batch",
        )
    return changes, [
        *_differences(old, new),
        *(f"only now: {case_name(c)}" for c in new["cases"] if _key(c) not in earlier),
    ]


def case_name(case: Mapping[str, Any]) -> str:
    """Return ``"cpu, 1 thread, batch 1"``."""
    threads = f"{case['threads']} thread{'s' if case['threads'] > 1 else ''}"
    transfers = ", without transfers" if case["transfers"] == "out" else ""
    return f"{short_provider(case['provider'])}, {threads}, batch {case['batch']}{transfers}"


def _key(case: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(case[name] for name in ("host", "provider", "threads", "batch", "transfers"))


def _same_original(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    first = [document["models"][0] for document in (old, new)]
    return bool(first[0]["sha256"] == first[1]["sha256"] and first[0]["name"] == first[1]["name"])


def _exact(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    earlier = {model["name"]: model for model in old["models"]}
    for model in new["models"]:
        for figure, key in (("file", "file_bytes"), ("gzip", "gzip_bytes")):
            if model["name"] in earlier:
                before, after = earlier[model["name"]][key], model[key]
                verdict: Verdict = "same" if before == after else "better" if after < before else "worse"
                ratio = after / before
                yield Change("", model["name"], figure, before, after, ratio, (ratio, ratio), verdict)


def _timed(before: Mapping[str, Any], after: Mapping[str, Any], calibrated: bool) -> Iterator[Change]:
    """Yield the changes in one case.

    Args:
        before: the earlier case.
        after: the case now.
        calibrated: whether the first model is the same file in both, so that it shows how the machine changed.
    """
    earlier = {model["name"]: model for model in before["models"]}
    drifted = calibrated and _moved(before["models"][0], after["models"][0], "p50_ms", "p50_ci95_ms")
    for index, model in enumerate(after["models"]):
        was = earlier.get(model["name"], {})
        steady = index == 0 or not _moved(was, model, "speedup", "speedup_ci95")
        for figure, key, interval, more_is_better, of_machine in _TIMED:
            if key not in was or key not in model:
                continue
            ratio, ci95 = _ratio(was[key], was[interval], model[key], model[interval])
            verdict: Verdict = "better" if (ratio > 1) == more_is_better else "worse"
            if _is_noise(ratio, ci95):
                verdict = "noise"
            elif of_machine and drifted and steady:
                verdict = "machine"
            yield Change(case_name(after), model["name"], figure, was[key], model[key], ratio, ci95, verdict)


def _moved(was: Mapping[str, Any], model: Mapping[str, Any], key: str, interval: str) -> bool:
    if key not in was or key not in model:
        return False
    return not _is_noise(*_ratio(was[key], was[interval], model[key], model[interval]))


def _is_noise(ratio: float, ci95: tuple[float, float]) -> bool:
    return ci95[0] <= 1 <= ci95[1] or abs(ratio - 1) < _SMALLEST


def _ratio(
    before: float, before_ci: Sequence[float], after: float, after_ci: Sequence[float]
) -> tuple[float, tuple[float, float]]:
    """Return the ratio of two independent estimates and its interval, from theirs.

    Method of variance estimates recovery on logarithms (Zou and Donner, Statistics in Medicine 27, 2008).
    """
    first, second = math.log(before), math.log(after)
    low1, high1, low2, high2 = (math.log(bound) for bound in (*before_ci, *after_ci))
    centre = second - first
    low = centre - math.hypot(second - low2, high1 - first)
    high = centre + math.hypot(high2 - second, first - low1)
    return math.exp(centre), (math.exp(low), math.exp(high))


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Yield what else is not as it was, which the figures may come from."""
    for host, now in new["environments"].items():
        then = old["environments"].get(host, now)
        for key in ("cpu", "gpu", "governor", "cores", "onnxruntime", "python"):
            if then.get(key) != now.get(key):
                yield f"{host}: {key} was {then.get(key)}, is {now.get(key)}"
    if old["settings"]["optimization"] != new["settings"]["optimization"]:
        yield f"graph optimizations were {old['settings']['optimization']}, are {new['settings']['optimization']}"
    names = {model["name"]: model["sha256"] for model in old["models"]}
    for model in new["models"]:
        if names.get(model["name"], model["sha256"]) != model["sha256"]:
            yield f"{model['name']} is another file than then"
