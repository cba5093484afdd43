"""``--on``: the probe on another machine, its figures, and its outputs beside this machine's."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnxruntime as ort

from toolchain.bench import probe
from toolchain.bench.foreign import check_environment, check_result, read_json, understood
from toolchain.bench.hosts import Host
from toolchain.bench.measurement import Settings, add_host, describe, make_job, prepare_inputs
from toolchain.bench.reference import Reference
from toolchain.bench.transport import Connection, Ended, connect
from toolchain.errors import HostError
from toolchain.graph import model_files
from toolchain.progress import Progress
from toolchain.units import bytes_text

PROBE = Path(probe.__file__)
SPARE = 1.2  # of what is copied, beside it: results and the runtime's profile
PACKAGES = ("numpy", "onnxruntime")
CANNOT_EXECUTE = (-4, -11)  # SIGILL, SIGSEGV: what a package built for another processor ends with

# Runs there. A package that is there but broken says why.
_CHECK = f"""
import importlib, json, sys
for name in {PACKAGES!r}:
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(json.dumps(dict(missing=name, why=str(error))))
        sys.exit(0)
import probe
print(json.dumps(dict(environment=probe.environment())))
"""


@dataclass(frozen=True)
class Remote:
    """Another machine: where, the command of Python there, and the folder in which ours is made."""

    host: Host
    python: str = "python3"
    folder: str = ""


def bench_on(
    remotes: Sequence[Remote], models: Sequence[Path], settings: Settings, progress: Progress
) -> tuple[dict[str, Any], list[HostError]]:
    """Measure models on other machines and return the bench document, and the errors of those that failed.

    Where nothing was measured, the document has no more than empty ``cases``, ``environments`` and ``notes``.

    Args:
        remotes: the machines.
        models: files; the first is what the others are compared with.
        settings: how.
        progress: is told how far it is.

    Raises:
        ToolchainError: a file is no model, or inputs do not fit.
    """
    prepared = prepare_inputs(models, settings)
    found: dict[str, Any] = {"environments": {}, "cases": [], "notes": []}
    failed: list[HostError] = []
    with tempfile.TemporaryDirectory(prefix="compress-bench-") as name:
        folder = Path(name)
        job = make_job(models, settings, prepared, folder, outputs=True)
        reference = Reference(job, folder, progress)
        for remote in remotes:
            try:
                _measure_on(remote, job, reference, found, progress)
            except HostError as error:
                failed.append(error)
    if not found["cases"]:
        return found, failed
    progress.phase("zip the files")
    document = describe(models, settings, prepared)
    return {**document, **found, "notes": document["notes"] + found["notes"]}, failed


def _measure_on(
    remote: Remote, job: probe.Job, reference: Reference, document: dict[str, Any], progress: Progress
) -> None:
    host = remote.host.name
    progress.phase(f"reach {host}")
    with connect(remote.host, remote.python, remote.folder) as device:
        device.put("probe.py", PROBE, lambda _count: None)
        environment = check(device, remote)
        note_version(document, host, environment)
        there = _copy(device, host, job, progress)
        progress.phase(f"measure on {host}")
        for number, (case, own) in enumerate(zip(there.cases, job.cases, strict=True)):
            told = _Told(progress, number, len(there.cases))
            found, outputs = run_case(device, replace(there, cases=[case]), environment, told)
            with understood(host):
                add_host(document, host, found)
                case_here = document["cases"][-1]
                document["notes"] += reference.add_differences(case_here, own.feeds, found["cases"][0], outputs)
            for index, model in enumerate(document["cases"][-1]["models"]):
                if model["error"] and reference.loads(own.feeds, index):
                    _explain_version(model["error"], environment)
        if not device.finish():
            document["notes"].append(f"{host}: could not remove {device.folder}")


def check(device: Connection, remote: Remote) -> dict[str, Any]:
    """Return what the probe sees of the device.

    Raises:
        HostError: it lacks numpy or onnxruntime, or cannot execute them.
    """
    ended = device.run(["-c", _CHECK], lambda _line: None)
    name, python = remote.host.name, remote.python
    install = (
        f"run on it: {python} -m pip install numpy onnxruntime=={ort.__version__} (or the newest for it); "
        "where pip refuses, make a virtual environment, and name its Python by --python"
    )
    try:
        answer = dict(read_json(ended.tail.strip().splitlines()[-1].encode()))
    except (ValueError, TypeError, IndexError) as error:
        why = how_it_ended(ended)
        if ended.code in CANNOT_EXECUTE:
            install = f"packages built for another processor end so; {install}"
        raise HostError(f"{name}: Python {device.python} cannot load numpy and onnxruntime: {why}", install) from error
    if "missing" in answer:
        raise HostError(
            f"{name}: Python {device.python} has no {answer['missing']} that can be imported: {answer['why']}", install
        )
    with understood(name):
        return check_environment(answer["environment"])


def _copy(device: Connection, host: str, job: probe.Job, progress: Progress) -> probe.Job:
    """Copy models and feeds, and return the job with their names there.

    Raises:
        HostError: the device has no room for them, or is gone.
    """
    files: dict[str, Path] = {}
    models = []
    for number, model in enumerate(job.models):
        path = Path(model.path)
        models.append(replace(model, path=f"model-{number}/{path.name}"))
        files |= {f"model-{number}/{name}": file for name, file in named_files(path)}
    files |= {Path(case.feeds).name: Path(case.feeds) for case in job.cases}
    total = sum(path.stat().st_size for path in files.values())
    if SPARE * total > device.free_bytes:
        raise HostError(
            f"{host} has {bytes_text(device.free_bytes)} free in {Path(device.folder).parent}, "
            f"the models and inputs take {bytes_text(total)}",
            "name a folder there that has more: --remote-folder /path",
        )
    progress.phase(f"copy to {host}")
    copied = 0

    def sent(count: int) -> None:
        nonlocal copied
        copied += count
        progress.update(copied / total, {"copied": f"{bytes_text(copied)} of {bytes_text(total)}"})

    for name, path in files.items():
        device.put(name, path, sent)
    return replace(job, models=models, cases=[replace(case, feeds=Path(case.feeds).name) for case in job.cases])


def named_files(model: Path) -> list[tuple[str, Path]]:
    """Return the files of a model, each with its name relative to the model's folder, the model's own first.

    Raises:
        ModelError: one is missing, or lies outside the folder.
    """
    _, *external = model_files(model)
    home = model.parent.resolve()
    return [(model.name, model), *((str(file.resolve().relative_to(home)), file) for file in external)]


class _Told:
    """Hands on what the probe prints: JSON lines with ``phase`` and ``done``."""

    def __init__(self, progress: Progress, number: int, count: int) -> None:
        self._progress, self._number, self._count = progress, number, count

    def __call__(self, line: str) -> None:
        try:
            told = json.loads(line)
            done, what = float(told["done"]), str(told["phase"])
        except (ValueError, KeyError, TypeError):
            return  # a library that prints
        self._progress.update((self._number + done) / self._count, {"now:": what})


def run_case(
    device: Connection, job: probe.Job, environment: Mapping[str, Any], told: "_Told"
) -> tuple[dict[str, Any], bytes | None]:
    """Return the probe's result of a job with one case, and its ``outputs.npz``; that it died is in the result.

    Raises:
        HostError: the device is gone, or sent what is no result.
    """
    name = "job.json"
    with tempfile.TemporaryDirectory(prefix="compress-bench-") as folder:
        path = Path(folder) / name
        path.write_text(json.dumps(asdict(job)), encoding="utf-8")
        device.put(name, path, lambda _count: None)
    ended = device.run(["probe.py", name, "result"], told)
    data = device.get("result/result.json") if ended.code == 0 else None
    if data is not None:
        with understood(device.name):
            return check_result(read_json(data), job), device.get("result/outputs.npz")
    case = job.cases[0]
    models = [
        {"name": model.name, "error": None, "memory": None, "layers": None, "outputs": None} for model in job.models
    ]
    row = {
        "provider": case.provider,
        "threads": case.threads or environment["cores"],
        "batch": case.batch,
        "transfers": case.transfers,
        "device": environment["cpu"],
        "error": f"the measurement ended before it was done: {how_it_ended(ended)}",
        "timed": [],
        "preempted": None,
        "timing_s": 0.0,
        "models": models,
    }
    return {"environment": environment, "cases": [row]}, None


def how_it_ended(ended: Ended) -> str:
    """Return in words how a command on a device ended."""
    if ended.oom:
        return "the system killed it because memory ran out"
    last = ended.tail.strip().splitlines()[-1:]
    return ": ".join([probe.death(ended.code), *last])


def note_version(document: dict[str, Any], host: str, environment: Mapping[str, Any]) -> None:
    """Note another version of ONNX Runtime than here."""
    there, here = environment["onnxruntime"], ort.__version__
    if there != here:
        document["notes"].append(f"{host} has onnxruntime {there}, this machine {here}: kernels may differ")


def _explain_version(error: dict[str, str], environment: Mapping[str, Any]) -> None:
    there, here = environment["onnxruntime"], ort.__version__
    if there != here:
        error["message"] += f" (onnxruntime {there} there; {here} here runs it)"
