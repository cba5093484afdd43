"""Measures ONNX models in stock ONNX Runtime on the machine that it runs on.

One file that needs only Python 3.8, numpy and onnxruntime, so that the same code measures here, where it is imported,
and on a board, where it is copied to:

    python probe.py job.json result

reads the job, writes ``result/result.json`` and ``result/outputs.npz``, and prints one JSON object a line on standard
output: ``{"phase": "cpu, 1 thread, batch 1: timing", "done": 0.4}``. Paths are relative to the working directory.

The job is ``Job`` as JSON. Feeds are ``.npz`` files whose ``arr_0``, ``arr_1``, ... feed the inputs that the case
names. The result is::

    format        1
    environment   {cpu, gpu, governor, temperature_c, temperature_after_c, cores, platform, python, numpy, onnxruntime,
                   providers}; what cannot be read is null
    cases         one per case of the job, in order:
      provider, threads, batch, transfers   of the case; threads resolved to a number
      device        the processor or the graphics card
      error         text; why nothing or no comparison could be measured here; null where all went well
      rounds_ms     [rounds][turns][models timed]: one entry a run, the models of a turn in the order of ``timed``
      timed         indices of the models that were timed together
      loads_ms      [rounds][models timed]: what creating each session took
      preempted     how often others took the processor away while timing; null where the system does not tell
      timing_s      how long that was
      models        one per model of the job, in order:
        name
        error       {stage: "load" | "run" | "time" | "profile", message}, or null
        memory      {runtime_bytes, load_bytes, peak_bytes} or null: what the process held before the model, and what
                    loading and running the model added to it at most
        layers      [{name, op, provider, ms}] in the order of execution: median over runs of the time in the node
                    itself; null where not profiled
        outputs     [{name, array}]: ``arr_<array>`` of ``outputs.npz``, null for what is no array of numbers; null
                    where not asked for

A model is first loaded, run and profiled in a process of its own, which shows its memory; where it fails, or the system
kills it, the others are measured without it. Then all models are timed in one process, each in a session of its own, in
turns. A turn runs every model once in random order, the next turn in reverse: each is preceded by each as often, so
none finds the caches warmer. Sessions are made anew several times, because where weights lie in memory differs.
"""
# ruff: noqa: B905, T201 - Python 3.8 knows no strict zip; a script prints

from __future__ import annotations

import contextlib
import gc
import json
import os
import platform
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence  # Python 3.8 has them in annotations only
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

FORMAT = 1
CPU = "CPUExecutionProvider"
# Providers whose memory is not the host's, as OrtValue calls their devices.
DEVICE_MEMORY = {"CUDAExecutionProvider": "cuda", "TensorrtExecutionProvider": "cuda", "DmlExecutionProvider": "dml"}
LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "none": "ORT_DISABLE_ALL",
}

MIN_ROUNDS, MAX_ROUNDS = 2, 8  # fresh sessions of all models
LOAD_SHARE = 0.3  # of the time, at most, goes into loading, unless that takes long
MIN_TURNS = 4  # in a round
MAX_TURNS = 4000  # over all rounds
MIN_WARM_UP = 1  # turns after the first, in which a session allocates
WARM_UP_SHARE = 0.15  # of the time, at most
STABLE_TURNS = 5  # warm is what has not become 1 % faster for so many turns
STABLE_GAIN = 0.99
PROFILE_SHARE = 0.1
MIN_PROFILED, MAX_PROFILED = 2, 100
TELL_EVERY_S = 0.25
DONE = "probe: "  # what a line of a stage begins with that says how far it is; providers may print as well
SEED = 0  # of the order of the runs

# A model of one Identity: opened first, it brings what the runtime itself takes into memory.
SMALLEST = bytes.fromhex(
    "08073a390a120a017812017922084964656e746974793a001201675a0f0a0178120a0a08080112040a020801620f0a0179120a0a08080112040a"
    "02080142040a00100d"
)


@dataclass(frozen=True)
class Model:
    """A model to measure: what it is called, and its file."""

    name: str
    path: str


@dataclass(frozen=True)
class Case:
    """One way to run the models.

    Attributes:
        feeds: the ``.npz`` file of the inputs.
        inputs: which input each of its arrays feeds.
        batch: samples that the feeds hold.
        threads: of one operator; 0 takes every core that the process may use.
        provider: ONNX Runtime's name of the execution provider.
        transfers: ``"in"`` counts copies between host and device, ``"out"`` leaves inputs and outputs on the device.
    """

    feeds: str
    inputs: Sequence[str]
    batch: int = 1
    threads: int = 0
    provider: str = CPU
    transfers: str = "in"


@dataclass(frozen=True)
class Job:
    """What to measure.

    Attributes:
        models: the first is what the others are compared with.
        cases: each is measured for about ``seconds``.
        optimization: ``"all"``, ``"extended"``, ``"basic"`` or ``"none"``: the session's graph optimizations.
        seconds: of timing per case; a slow model takes the time of a few runs at least.
        measure: any of ``"latency"``, ``"layers"`` and ``"outputs"``; memory is always measured.
    """

    models: Sequence[Model]
    cases: Sequence[Case]
    optimization: str = "all"
    seconds: float = 6.0
    measure: Sequence[str] = field(default=("latency",))

    @staticmethod
    def of(document: dict[str, Any]) -> Job:
        """Return the job that ``asdict`` made ``document`` of."""
        models = [Model(**model) for model in document["models"]]
        cases = [Case(**case) for case in document["cases"]]
        return Job(**{**document, "models": models, "cases": cases})


def run(job: Job, folder: Path, tell: Callable[[str, float], None]) -> dict[str, Any]:
    """Measure, write ``outputs.npz`` into ``folder`` where outputs are asked for, and return the result.

    Args:
        job: what to measure.
        folder: exists.
        tell: is called with what is being done and how far all of it is, 0..1.
    """
    found = environment()
    outputs: list[Any] = []
    cases = [_measure_case(job, number, outputs, tell) for number in range(len(job.cases))]
    found["temperature_after_c"] = temperature()
    if "outputs" in job.measure:
        np.savez(folder / "outputs.npz", *outputs)
    tell("done", 1.0)
    return {"format": FORMAT, "environment": found, "cases": cases}


def _measure_case(job: Job, number: int, outputs: list[Any], tell: Callable[[str, float], None]) -> dict[str, Any]:
    case = job.cases[number]
    threads = case.threads or available_cores()
    what = f"{short_provider(case.provider)}, {threads} thread{'s' if threads > 1 else ''}, batch {case.batch}"

    def told(stage: str, part: float, whole: float) -> Callable[[float], None]:
        """Return what a stage calls with its progress; it covers ``whole`` of the case from ``part`` on."""
        return lambda done: tell(f"{what}: {stage}", (number + part + whole * done) / len(job.cases))

    row: dict[str, Any] = {
        "provider": case.provider,
        "threads": threads,
        "batch": case.batch,
        "transfers": case.transfers,
        "device": device(case.provider),
        "error": objection(case),
        "timed": [],
        "rounds_ms": [],
        "loads_ms": [],
        "preempted": None,
        "timing_s": 0.0,
        "models": [
            {"name": model.name, "error": None, "memory": None, "layers": None, "outputs": None} for model in job.models
        ],
    }
    if row["error"]:
        return row
    request = {"case": {**asdict(case), "threads": threads}, "optimization": job.optimization, "seconds": job.seconds}
    request["outputs"] = "outputs" in job.measure
    request["layers"] = "layers" in job.measure or case.provider != CPU  # they tell what fell back to the CPU
    share = 0.2 / len(job.models)
    for index, model in enumerate(job.models):
        asked = {**request, "stage": "try", "paths": [model.path]}
        answer = _ask(asked, told(f"trying {model.name}", index * share, share))
        kept = answer.pop("arrays", [])
        row["models"][index].update(answer)
        for output in row["models"][index]["outputs"] or []:
            if output["array"] is not None:
                output["array"] += len(outputs)
        outputs += kept
    able = [
        index for index, found in enumerate(row["models"]) if (found["error"] or {}).get("stage") in (None, "profile")
    ]
    if "latency" in job.measure and able:
        paths = [job.models[index].path for index in able]
        answer = _ask({**request, "stage": "time", "paths": paths}, told("timing", 0.2, 0.8))
        if answer.get("error"):
            row["error"] = f"timing {len(able)} models in one process failed: {answer['error']['message']}"
        else:
            row.update(answer, timed=able)
    return row


def objection(case: Case) -> str | None:
    """Return why a case cannot be measured here, or None."""
    offered = ort.get_available_providers()
    if case.provider not in offered:
        return (
            f"onnxruntime {ort.__version__} as it is installed does not offer {case.provider}, "
            f"it offers {', '.join(offered)}; other builds of it offer others"
        )
    if case.transfers == "out" and case.provider not in DEVICE_MEMORY:
        return f"{case.provider} runs in the host's memory, so there are no transfers to leave out"
    return None


# ---- stages, each in a process of its own


def _ask(request: dict[str, Any], done: Callable[[float], None]) -> dict[str, Any]:
    """Return the answer of a child process that does the stage; that it died is its ``error``."""
    done(0.0)
    with tempfile.TemporaryDirectory(prefix="probe-") as name:
        folder = Path(name)
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        with (folder / "errors.txt").open("wb") as errors:
            # It writes to a pipe of ours while it works, so it ends soon after we do.
            child = subprocess.Popen(
                [sys.executable, __file__, "--stage", name], stdout=subprocess.PIPE, stderr=errors, text=True
            )
            with child:
                for line in child.stdout or ():
                    if line.startswith(DONE):
                        done(float(line[len(DONE) :]))
        if child.returncode:
            last = (folder / "errors.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            message = ": ".join([death(child.returncode), *last])
            return {"error": {"stage": {"try": "run"}.get(request["stage"], request["stage"]), "message": message}}
        answer: dict[str, Any] = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
        if (folder / "arrays.npz").exists():
            with np.load(folder / "arrays.npz", allow_pickle=False) as arrays:
                answer["arrays"] = [arrays[f"arr_{index}"] for index in range(len(arrays.files))]
    return answer


def death(code: int) -> str:
    """Return in words how a process ended that gave no answer."""
    if code >= 0:
        return f"the process that ran it ended with code {code}"
    names = {item.value: item.name for item in signal.Signals}
    likely = ", most likely because the machine ran out of memory" if -code == 9 else ""
    return f"the process that ran it was ended by {names.get(-code, f'signal {-code}')}{likely}"


def _stage(folder: Path) -> None:
    """Do what ``request.json`` in ``folder`` asks for, and leave ``answer.json`` there."""
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    case = Case(**request["case"])
    stages = {"try": _try, "time": _time}
    answer = stages[request["stage"]](request, case, folder)
    (folder / "answer.json").write_text(json.dumps(answer), encoding="utf-8")


def _failure(stage: str, error: BaseException) -> dict[str, Any]:
    return {"error": {"stage": stage, "message": str(error) or type(error).__name__}}


def _try(request: dict[str, Any], case: Case, folder: Path) -> dict[str, Any]:
    """Load and run a model alone, and say what memory that took."""
    feeds = read_feeds(case)
    runtime = ort.InferenceSession(SMALLEST, providers=[CPU])
    runtime.run(None, {"x": np.zeros(1, np.float32)})
    before = _settled_bytes()
    try:
        session = open_session(request["paths"][0], case, request["optimization"])
    except Exception as error:  # noqa: BLE001 - the runtime's errors have no base class of their own
        return _failure("load", error)
    loaded = _peak_bytes()
    values: list[Any] = []
    try:
        run_once = runner(session, feeds, case)
        run_once()
        run_once()
        if request["outputs"]:
            values = session.run(None, feeds)
    except Exception as error:  # noqa: BLE001
        return _failure("run", error)
    answer: dict[str, Any] = {}
    ran = _peak_bytes()
    if before is not None and loaded is not None and ran is not None:
        added = max(0, loaded - before), max(0, ran - before)
        answer["memory"] = {"runtime_bytes": before, "load_bytes": added[0], "peak_bytes": added[1]}
    if request["outputs"]:
        answer["outputs"] = _keep([output.name for output in session.get_outputs()], values, folder)
    if request["layers"]:
        del session, run_once  # its memory is wanted for the next one
        answer.update(_profile(request, case, feeds, folder))
    return answer


def _keep(names: Sequence[str], values: Sequence[Any], folder: Path) -> list[dict[str, Any]]:
    """Write the outputs that are arrays of numbers to ``arrays.npz``, and say which is where."""
    numbers = [isinstance(value, np.ndarray) and value.dtype.kind in "fiub" for value in values]
    places = [sum(numbers[:index]) if is_number else None for index, is_number in enumerate(numbers)]
    np.savez(folder / "arrays.npz", *(value for value, is_number in zip(values, numbers) if is_number))
    return [{"name": name, "array": place} for name, place in zip(names, places)]


def _time(request: dict[str, Any], case: Case, _folder: Path) -> dict[str, Any]:
    """Time the models in turns."""
    rng = random.Random(SEED)
    feeds = read_feeds(case)
    loads_ms: list[list[float]] = []
    rounds_ms: list[list[list[float]]] = []
    count, started, before = 1, time.perf_counter(), _preemptions()
    while len(rounds_ms) < count:
        try:
            runners, spent_ms = _open_all(request, case, feeds, rng)
            loads_ms.append(spent_ms)
            first_ms = sum(_turn(runners, range(len(runners))))
            if not rounds_ms:
                count = _affordable_rounds(1e3 * request["seconds"], sum(spent_ms), first_ms)
            seconds = (
                max(request["seconds"] * (1 - LOAD_SHARE), request["seconds"] - count * sum(spent_ms) / 1e3) / count
            )
            said = _Said(len(rounds_ms) / count, 1 / count)
            rounds_ms.append(_interleave(runners, seconds, MAX_TURNS // count, rng, said))
        except Exception as error:  # noqa: BLE001
            return _failure("time", error)
        runners.clear()  # gives the memory back before the next ones take theirs
    after = _preemptions()
    return {
        "rounds_ms": rounds_ms,
        "loads_ms": loads_ms,
        "preempted": None if before is None or after is None else after - before,
        "timing_s": time.perf_counter() - started,
    }


def _affordable_rounds(time_ms: float, load_ms: float, turn_ms: float) -> int:
    """Return in how many rounds to spend the time, where loading and one turn of all models take so long."""
    shortest_ms = load_ms + (1 + MIN_WARM_UP + MIN_TURNS) * turn_ms
    return max(MIN_ROUNDS, min(MAX_ROUNDS, int(LOAD_SHARE * time_ms / load_ms), int(time_ms / shortest_ms)))


class _Said:
    """Prints how far the timing is, a few times a second, never inside a timed run."""

    def __init__(self, start: float, width: float) -> None:
        self._start, self._width, self._last = start, width, 0.0

    def __call__(self, done: float) -> None:
        now = time.perf_counter()
        if now - self._last > TELL_EVERY_S:
            self._last = now
            print(f"{DONE}{self._start + self._width * min(done, 1.0)}", flush=True)


def _open_all(
    request: dict[str, Any], case: Case, feeds: dict[str, Any], rng: random.Random
) -> tuple[list[Callable[[], Any]], list[float]]:
    """Return what runs each model once, opened in random order, and the milliseconds that opening each took."""
    paths = request["paths"]
    runners: dict[int, Callable[[], Any]] = {}
    spent_ms = [0.0] * len(paths)
    for index in rng.sample(range(len(paths)), len(paths)):
        start = time.perf_counter()
        session = open_session(paths[index], case, request["optimization"])
        spent_ms[index] = 1e3 * (time.perf_counter() - start)
        runners[index] = runner(session, feeds, case)
    return [runners[index] for index in range(len(paths))], spent_ms


def _interleave(
    runners: Sequence[Callable[[], Any]], seconds: float, limit: int, rng: random.Random, said: Callable[[float], None]
) -> list[list[float]]:
    """Return the milliseconds of each run, ``[turns][models]``, at most ``limit`` turns."""
    started = time.perf_counter()
    _warm_up(runners, started + seconds * WARM_UP_SHARE, limit)
    turns: list[list[float]] = []
    collects = gc.isenabled()
    gc.disable()  # a collection would land in a random run
    try:
        while len(turns) < MIN_TURNS or (len(turns) < limit and time.perf_counter() < started + seconds):
            order = rng.sample(range(len(runners)), len(runners))
            turns += [_turn(runners, order), _turn(runners, order[::-1])]
            said(max((time.perf_counter() - started) / seconds, len(turns) / limit))
    finally:
        if collects:
            gc.enable()
    return turns


def _warm_up(runners: Sequence[Callable[[], Any]], end: float, limit: int) -> None:
    """Run all models until they become no faster."""
    fastest, since, turns = float("inf"), 0, 0
    while turns < MIN_WARM_UP or (since < STABLE_TURNS and turns < limit and time.perf_counter() < end):
        spent = sum(_turn(runners, range(len(runners))))
        since = 0 if spent < STABLE_GAIN * fastest else since + 1
        fastest = min(fastest, spent)
        turns += 1


def _turn(runners: Sequence[Callable[[], Any]], order: Sequence[int]) -> list[float]:
    spent = [0.0] * len(runners)
    for index in order:
        start = time.perf_counter()
        runners[index]()
        spent[index] = 1e3 * (time.perf_counter() - start)
    return spent


def _profile(request: dict[str, Any], case: Case, feeds: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the time in each node, from the runtime's own profiler."""
    try:
        session = open_session(request["paths"][0], case, request["optimization"], str(folder / "profile"))
        run_once = runner(session, feeds, case)
        run_once()
        start = time.perf_counter()
        run_once()
        took = time.perf_counter() - start
        for _ in range(min(MAX_PROFILED, max(MIN_PROFILED, int(request["seconds"] * PROFILE_SHARE / took)))):
            run_once()
        written = Path(session.end_profiling())
        return {"layers": node_times(json.loads(written.read_text(encoding="utf-8")))}
    except Exception as error:  # noqa: BLE001 - also what another version of the runtime writes into its profile
        return _failure("profile", error)


def node_times(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return ``{name, op, provider, ms}`` of every node in the order of execution, from a profile of several runs.

    The first run, which allocates, is left out. What a node such as ``Loop`` spends in the nodes inside it is counted
    there.
    """
    ends = sorted(event["ts"] + event["dur"] for event in events if event["name"] == "model_run")
    kernels = [
        event
        for event in events
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time") and event["ts"] >= ends[0]
    ]
    kernels.sort(key=lambda event: (event["ts"], -event["dur"]))
    own = [float(event["dur"]) for event in kernels]
    open_: list[int] = []  # events that the current one may lie in
    for index, event in enumerate(kernels):
        while open_ and kernels[open_[-1]]["ts"] + kernels[open_[-1]]["dur"] < event["ts"] + event["dur"]:
            open_.pop()
        if open_:
            own[open_[-1]] -= event["dur"]
        open_.append(index)
    found: dict[str, dict[str, Any]] = {}
    for event, spent in zip(kernels, own):
        name, arguments = event["name"][: -len("_kernel_time")], event["args"]
        node = found.setdefault(
            name, {"op": arguments["op_name"], "provider": arguments["provider"], "runs": [0.0] * (len(ends) - 1)}
        )
        number = sum(end <= event["ts"] for end in ends) - 1
        node["runs"][number] += spent / 1e3
    return [
        {"name": name, "op": node["op"], "provider": node["provider"], "ms": statistics.median(node["runs"])}
        for name, node in found.items()
    ]


# ---- the runtime


def open_session(path: str, case: Case, optimization: str = "all", profile: str | None = None) -> Any:  # noqa: ANN401
    """Return an ``InferenceSession`` of the file.

    Raises:
        Exception: what the runtime raises; RuntimeError where the provider did not start.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, LEVELS[optimization])
    options.intra_op_num_threads = case.threads or available_cores()
    options.log_severity_level = 3  # errors; warnings about single nodes are not for the user of a figure
    # Idle workers of one session would otherwise spin on the cores while another session is timed.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    settings: dict[str, str] = {}
    if case.provider == "OpenVINOExecutionProvider":
        settings["num_of_threads"] = str(options.intra_op_num_threads)
    if case.provider == "XnnpackExecutionProvider":  # it has its own threads; the runtime's are to stay out of the way
        settings["intra_op_num_threads"] = str(options.intra_op_num_threads)
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    providers: list[Any] = [(case.provider, settings)]
    if case.provider != CPU:
        providers.append((CPU, {}))
    session = ort.InferenceSession(path, options, providers=providers, enable_fallback=0)
    if session.get_providers()[0] != case.provider:  # libraries that are missing make the runtime go on without it
        raise RuntimeError(f"onnxruntime offers {case.provider} but did not start it, its libraries may be missing")
    return session


def runner(session: Any, feeds: dict[str, Any], case: Case) -> Callable[[], Any]:  # noqa: ANN401
    """Return what runs the model once and, where transfers count, returns its outputs as numpy arrays."""
    if case.transfers == "in":
        return lambda: session.run(None, feeds)
    memory = DEVICE_MEMORY[case.provider]
    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array, memory, 0))
    for output in session.get_outputs():
        binding.bind_output(output.name, memory)
    binding.synchronize_inputs()

    def run_once() -> None:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return run_once


def read_feeds(case: Case) -> dict[str, Any]:
    """Return what the case feeds, by input name."""
    with np.load(case.feeds, allow_pickle=False) as arrays:
        return {name: arrays[f"arr_{index}"] for index, name in enumerate(case.inputs)}


def known_providers() -> list[str]:
    """Return the providers that the runtime can be built with, whether they are installed or not."""
    return list(ort.get_all_providers())


def short_provider(name: str) -> str:
    """Return what a provider is called on the command line: ``"cpu"`` of ``"CPUExecutionProvider"``."""
    return (name[: -len("ExecutionProvider")] if name.endswith("ExecutionProvider") else name).lower()


# ---- the machine


def environment() -> dict[str, Any]:
    """Return what a figure's reader wants to know of the machine."""
    return {
        "cpu": cpu_model(),
        "gpu": gpu_model(),
        "governor": _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "temperature_c": temperature(),
        "cores": available_cores(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": ort.__version__,
        "providers": ort.get_available_providers(),
    }


def device(provider: str) -> str:
    """Return the processor, or the graphics card where the provider has memory of its own."""
    return (gpu_model() if provider in DEVICE_MEMORY else None) or cpu_model()


def cpu_model() -> str:
    """Return the processor's name, on a board the board's, or the architecture where the system does not tell."""
    lines = _lines("/proc/cpuinfo")  # Linux; platform.processor() is empty there
    for key in ("model name", "Model", "Hardware"):
        for line in lines:
            if line.partition(":")[0].strip() == key and line.partition(":")[2].strip():
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def gpu_model() -> str | None:
    """Return the name of the first NVIDIA graphics card, or None."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    command = [tool, "--query-gpu=name", "--format=csv,noheader"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return next(iter(found.stdout.splitlines()), None) if found.returncode == 0 else None


def temperature() -> float | None:
    """Return the hottest of the machine's sensors in degrees Celsius, or None where there is none."""
    readings = [_first_line(str(path)) for path in Path("/sys/class/thermal").glob("thermal_zone*/temp")]
    degrees = [int(reading) / 1e3 for reading in readings if reading and reading.lstrip("-").isdigit()]
    return max(degrees, default=None)


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # other systems have no such file, and some sensors refuse to be read
        return []


def _first_line(path: str) -> str | None:
    return next(iter(_lines(path)), None)


def _settled_bytes() -> int | None:
    """Return the resident bytes of this process, and make its peak start from here where the system can do that."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _peak_bytes()


def _peak_bytes() -> int | None:
    """Return the most bytes of memory that this process has held so far, or None where the system does not tell."""
    for line in _lines("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    usage = _usage()
    return None if usage is None else int(usage.ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


def _preemptions() -> int | None:
    usage = _usage()
    return None if usage is None else int(usage.ru_nivcsw)


def _usage() -> Any:  # noqa: ANN401 - the type's module is not there on every system
    try:
        import resource  # noqa: PLC0415
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF)


def main(arguments: Sequence[str]) -> None:
    """Measure a job file, or do one stage of it."""
    if arguments[:1] == ["--stage"]:
        _stage(Path(arguments[1]))
        return
    job = Job.of(json.loads(Path(arguments[0]).read_text(encoding="utf-8")))
    folder = Path(arguments[1])
    folder.mkdir(parents=True, exist_ok=True)
    result = run(job, folder, lambda phase, done: print(json.dumps({"phase": phase, "done": done}), flush=True))
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
