"""The bench document: what was asked, the job that the probe gets, and the figures made of what it measured."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from toolchain.bench import estimate, probe
from toolchain.bench.inputs import Feeds, Prepared, Shape, check_feeds, prepare
from toolchain.bench.layers import match_layers
from toolchain.bench.rows import HERE
from toolchain.errors import BenchError, DataError, nearest
from toolchain.files import file_bytes, gzip_bytes, sha256
from toolchain.graph import load_graph, model_files
from toolchain.progress import Progress

BENCH_SCHEMA = 1
DISTRIBUTION = "onnx-compress"


@dataclass(frozen=True)
class Settings:
    """How models are measured: one case for every combination of provider, number of threads and batch size.

    Attributes:
        threads: of one operator; 0 takes every core that the process may use.
        batches: samples at a time; none take what the model fixes, or 1.
        providers: ONNX Runtime's names.
        optimization: ``"all"``, ``"extended"``, ``"basic"`` or ``"none"``.
        transfers: ``"in"`` or ``"out"`` of the figures; only providers with memory of their own have them.
        shapes: of inputs with open dimensions, by name.
        inputs: file of samples; None makes random ones.
        seconds: of timing per case.
        profile: whether the time in each node is measured.
    """

    threads: Sequence[int] = (0,)
    batches: Sequence[int] = ()
    providers: Sequence[str] = (probe.CPU,)
    optimization: str = "all"
    transfers: str = "in"
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    inputs: Path | None = None
    seconds: float = 6.0
    profile: bool = False


def provider_name(short: str) -> str:
    """Return ONNX Runtime's name of a provider that is called ``short``, such as ``"cuda"``.

    Raises:
        BenchError: the runtime knows none of that name.
    """
    known = {probe.short_provider(name): name for name in probe.known_providers()}
    if short.lower() not in known:
        raise BenchError(f"ONNX Runtime knows no execution provider {short!r}", hint=nearest(short, known))
    return known[short.lower()]


def bench(models: Sequence[Path], settings: Settings, progress: Progress) -> dict[str, Any]:
    """Measure models on this machine and return the bench document.

    Args:
        models: files; the first is what the others are compared with.
        settings: how.
        progress: is told how far it is.

    Raises:
        ToolchainError: a provider is not installed, a file is no model, or inputs do not fit. What the runtime cannot
            load or run has its ``error`` in the document instead, and the other figures are there.
    """
    for provider in settings.providers:
        objection = probe.objection(probe.Case("", (), provider=provider, transfers=settings.transfers))
        if objection is not None:
            raise BenchError(objection)
    prepared = prepare_inputs(models, settings)
    with tempfile.TemporaryDirectory(prefix="compress-bench-") as name:
        folder = Path(name)
        result = probe.run(make_job(models, settings, prepared, folder), folder, Told(progress))
    document = describe(models, settings, prepared)  # zips the files, which takes a while where they are large
    add_host(document, HERE, result)
    return document


class Told:
    """Hands the probe's progress on: one phase, in which the figures say what is being done."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        progress.phase("measure", 1.0)

    def __call__(self, what: str, done: float) -> None:
        """Say what is being done, and how far all of it is."""
        self._progress.update(done, {"now:": what})


def prepare_inputs(models: Sequence[Path], settings: Settings) -> list[Prepared]:
    """Return the inputs of every batch size, which fit all models.

    Raises:
        ToolchainError: a file is no model, or the inputs do not fit one.
    """
    graphs = [load_graph(path) for path in models]
    prepared = [
        prepare(graphs[0], batch, settings.shapes, settings.inputs, str(models[0]))
        for batch in settings.batches or (None,)
    ]
    for item in prepared:
        for path, graph in zip(models[1:], graphs[1:], strict=True):
            check_feeds(item.feeds, graph, str(path), str(models[0]))
    return prepared


def make_job(
    models: Sequence[Path], settings: Settings, prepared: Sequence[Prepared], folder: Path, outputs: bool = False
) -> probe.Job:
    """Return the probe's job, and write the feeds into ``folder``.

    Args:
        models: files.
        settings: how they are measured.
        prepared: the inputs of each batch size.
        folder: of the feeds, ``feeds-0.npz`` and so on.
        outputs: whether the probe is to keep the outputs of each model.
    """
    paths = [save_feeds(item.feeds, folder / f"feeds-{number}.npz") for number, item in enumerate(prepared)]
    cases = [
        probe.Case(str(path), tuple(item.feeds), item.batch, threads, provider, settings.transfers)
        for provider in settings.providers
        for threads in settings.threads
        for path, item in zip(paths, prepared, strict=True)
    ]
    wanted = ["latency", *(["layers"] if settings.profile else []), *(["outputs"] if outputs else [])]
    named = [probe.Model(name, str(path)) for name, path in zip(short_names(models), models, strict=True)]
    return probe.Job(named, cases, settings.optimization, settings.seconds, wanted)


def save_feeds(feeds: Feeds, path: Path) -> Path:
    """Write feeds as the probe reads them; the case has their names, which may be anything.

    Raises:
        DataError: values are of a type that numpy cannot store without pickling.
    """
    for name, array in feeds.items():
        if array.dtype.kind not in "fiubU":
            raise DataError(f"input {name!r} is {array.dtype}, which cannot be fed from a file of numbers")
    np.savez(path, *feeds.values())
    return path


def short_names(models: Sequence[Path]) -> list[str]:
    """Return the files' names, with as much of their folders as tells them apart."""
    names = [path.name for path in models]
    for parts in range(2, 6):
        if len(set(names)) == len(set(models)):
            break
        names = ["/".join(path.parts[-parts:]) for path in models]
    return [name if names.count(name) == 1 else f"{name} ({number})" for number, name in enumerate(names, 1)]


def describe(models: Sequence[Path], settings: Settings, prepared: Sequence[Prepared]) -> dict[str, Any]:
    """Return the bench document without figures: what was measured, and how."""
    return {
        "schema": BENCH_SCHEMA,
        "kind": "bench",
        "tool": {"version": version(DISTRIBUTION)},
        "settings": {"optimization": settings.optimization, "seconds": settings.seconds},
        "models": [_file(name, path) for name, path in zip(short_names(models), models, strict=True)],
        "notes": list(dict.fromkeys(note for item in prepared for note in item.notes)),
        "environments": {},
        "cases": [],
    }


def _file(name: str, path: Path) -> dict[str, Any]:
    files = model_files(path)
    sizes = {"file_bytes": file_bytes(files), "gzip_bytes": gzip_bytes(files)}
    return {"name": name, "path": str(path), "sha256": sha256(path), **sizes}


def add_host(document: dict[str, Any], host: str, result: Mapping[str, Any]) -> None:
    """Add what the probe measured on a host to the document.

    Args:
        document: from ``describe``.
        host: what the machine is called.
        result: of the probe.
    """
    document["environments"][host] = result["environment"]
    document["cases"] += host_cases(host, result)


def host_cases(host: str, result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the figures of every case that the probe measured on a host, as the bench document has them."""
    return [_case(case, host) for case in result["cases"]]


def _case(case: Mapping[str, Any], host: str) -> dict[str, Any]:
    """Return the figures of one case."""
    kept = ("provider", "device", "threads", "batch", "transfers", "error")
    row: dict[str, Any] = {"host": host, **{key: case[key] for key in kept}}
    row["models"] = [
        {"name": model["name"], "error": model["error"], "memory": _memory(model["memory"])} for model in case["models"]
    ]
    row["preempted_per_s"] = None if case["preempted"] is None else case["preempted"] / case["timing_s"]
    if case["timed"]:
        _add_times(row, case)
    first = case["models"][0]["layers"]
    for index, model in enumerate(case["models"]):
        if model["layers"] is not None:
            row["models"][index]["layers"] = match_layers(first or [], model["layers"] if index else [])
            row["models"][index]["fallback"] = [
                {"name": node["name"], "op": node["op"]}
                for node in model["layers"]
                if node["provider"] != case["provider"]
            ]
    return row


def _memory(found: Mapping[str, int] | None) -> dict[str, int] | None:
    return None if found is None else {key: found[key] for key in ("load_bytes", "peak_bytes")}


def _add_times(row: Mapping[str, Any], case: Mapping[str, Any]) -> None:
    models = row["models"]
    rounds = [np.array(times) for times in case["rounds_ms"]]
    times, loads = np.concatenate(rounds), np.array(case["loads_ms"])
    drawn, drawn_loads = estimate.bootstrap(rounds), estimate.bootstrap([loads])
    for column, index in enumerate(case["timed"]):
        model = models[index]
        model |= estimate.summarize(times[:, column])
        for number, statistic in enumerate(estimate.STATISTICS):
            model[f"{statistic}_ci95_ms"] = estimate.interval(drawn[:, number, column])
        model["throughput_per_s"] = 1e3 * case["batch"] / model["mean_ms"]
        model["load_ms"] = float(np.median(loads[:, column]))
        model["load_ci95_ms"] = estimate.interval(drawn_loads[:, 0, column])
        model["sessions"] = len(rounds)
        if index and not case["timed"][0]:  # there is an original to compare with
            ci95 = estimate.interval(drawn[:, 0, 0] / drawn[:, 0, column])
            speedup = models[0]["p50_ms"] / model["p50_ms"]
            why = estimate.noise(speedup, ci95, row["preempted_per_s"])
            model |= {"speedup": speedup, "speedup_ci95": ci95, "noisy": bool(why), "noise": why}
