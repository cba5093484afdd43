"""Feeds damaged models to the importer, each in a process of its own, and prints a line of JSON for each.

    python run.py [--rounds N] [--seed S] [--every N] [--only TEXT] [MODEL.onnx ...]

A case is loaded, inspected, made a module and run once, and its process may take ``SECONDS`` and ``ADDRESS_BYTES``.
Outcomes: ``works``; ``refused`` (a ToolchainError); ``error`` (any other exception); ``hang``; ``crash`` (a signal);
``memory`` (refused or working, but only after it took more than ``allowed_bytes`` before it ran anything).
"""

import argparse
import contextlib
import json
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain, islice
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime  # noqa: F401 - loaded once here, not in every case
import torch
from absurd import absurd
from choices import UnfitError
from google.protobuf.message import Message
from mutations import OF_BYTES, OF_MODELS, mutate
from seeds import valid

from toolchain.errors import ToolchainError
from toolchain.graph import Value, load_graph, trial
from toolchain.inspection import inspect
from toolchain.module import OnnxModule
from toolchain.ops import control

SECONDS = 15.0
LARGEST_SAMPLE = 2**22
ADDRESS_BYTES = 2**29
Files = dict[str, bytes]


@dataclass(frozen=True)
class Result:
    """What became of a case.

    Attributes:
        case: seed, mutation and number.
        outcome: see above.
        stage: the last stage that was begun.
        error: type and place of a foreign exception, or the signal.
        message: of the exception.
        named: whether the message names something of the model, or the stage before it has names.
        seconds: of all stages.
        peak_bytes: the most memory that it took beyond what the process had, before anything was run.
    """

    case: str
    outcome: str
    stage: str
    error: str
    message: str
    named: bool
    seconds: float
    peak_bytes: int


def allowed_bytes(files: Files) -> int:
    """Return how much memory the files justify: a few copies of them, and what the libraries take at first use."""
    return 96 * 2**20 + 16 * sum(map(len, files.values()))


def run_case(case: str, files: Files) -> Result:
    """Try the model in a forked process."""
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            Path(folder, name).write_bytes(data)
        reading, writing = os.pipe()
        started = time.monotonic()
        child = os.fork()
        if not child:
            os.close(reading)
            _child(Path(folder, "model.onnx"), writing)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            lines = [json.loads(line) for line in pipe.read().splitlines()]
        status = os.waitpid(child, 0)[1]
    return _result(case, files, status, lines, time.monotonic() - started)


def _child(path: Path, writing: int) -> None:
    """Run the stages and tell of each when it begins and of the end; never returns."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process even where it hangs in compiled code
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + ADDRESS_BYTES,) * 2)
    at_start = _status("VmHWM")

    def tell(**entry: Any) -> None:
        entry["peak"] = _status("VmHWM") - at_start
        os.write(writing, (json.dumps(entry) + "\n").encode())

    try:
        tell(stage="load")
        graph = load_graph(path)
        tell(stage="inspect")
        inspect(path)
        tell(stage="module")
        module = OnnxModule(graph).eval()
        tell(stage="forward")
        module({value.name: _sample(value) for value in graph.inputs})
        tell(outcome="works")
    except ToolchainError as error:
        tell(outcome="refused", message=str(error)[:20000], place=_place(error.__cause__ or error))
    except BaseException as error:  # noqa: BLE001 - what escapes is the finding
        tell(outcome="error", message=str(error)[:20000], place=_place(error))
    os._exit(0)


def _status(field: str) -> int:
    """Return a figure of this process in bytes."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/toolchain/" in frame.filename]
    frame = own[-1] if own else frames[-1]
    return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno} {frame.name}"


def _sample(value: Value) -> Any:
    """Return what could be fed to an input, cut where it would be large."""
    known = value.shape or ()
    # What is open is taken for the batch, or for the side of an image.
    shape = [size if isinstance(size, int) else 32 if len(known) == 4 and k else 2 for k, size in enumerate(known)]
    if prod(shape) > LARGEST_SAMPLE:
        shape = [min(size, 8) for size in shape[:6]]
    fill = "one" if value.dtype.kind in "OSU" else 1
    array: np.ndarray = np.full(shape, fill, value.dtype)
    return [array, array] if value.kind == "sequence" else array


def _result(case: str, files: Files, status: int, lines: list[dict[str, Any]], seconds: float) -> Result:
    last = lines[-1] if lines and "outcome" in lines[-1] else {}
    stages = [line for line in lines if "stage" in line]
    # What a model takes while it runs is its own affair, as long as it is refused where there is not so much.
    peak = max((line["peak"] for line in lines if stages[-1]["stage"] != "forward" or "stage" in line), default=0)
    outcome, place = last.get("outcome", "crash"), last.get("place", "")
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        outcome = "hang" if number == signal.SIGALRM else "crash"
        place = signal.Signals(number).name
    if outcome in ("works", "refused") and peak > allowed_bytes(files):
        outcome = "memory"
    message = last.get("message", "")
    stage = stages[-1]["stage"] if stages else ""
    return Result(case, outcome, stage, place, message, _names_something(message, files), round(seconds, 3), peak)


def _names_something(message: str, files: Files) -> bool:
    """Return whether the message holds a name of the model, or of its file where that cannot be parsed."""
    message = re.sub(r"\S*/model\.onnx", "model.onnx", message)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(files["model.onnx"])
    except Exception:  # noqa: BLE001 - nothing has names where nothing parses
        return "model.onnx" in message
    # What is named otherwise, or has no name; and texts end at \\0 for the checker, which is written in C++.
    known = (
        "opset",
        "Opset",
        "operator set",
        "ir_version",
        "IR version",
        "no nodes",
        "no UTF-8",
        "non-empty",
        "'name'",
    )
    texts = set(_texts(model))
    return any(name in message for name in known) or any(
        repr(text) in message or (len(text) > 1 and text.partition("\0")[0] in message) for text in texts
    )


def _texts(message: Message) -> Iterator[str]:
    """Yield every string in a protobuf message."""
    for field, value in message.ListFields():
        for item in value if field.is_repeated else [value]:
            if isinstance(item, Message):
                yield from _texts(item)
            elif isinstance(item, str) and item:
                yield item


def cases(models: dict[str, Files], rounds: int, seed: int) -> Iterator[tuple[str, Files]]:
    """Yield every model damaged ``rounds`` times in every way, from ``seed`` alone."""
    for name, files in models.items():
        for mutator in (*OF_MODELS, *OF_BYTES):
            for number in range(rounds):
                case = f"{name}/{mutator}/{number}"
                chance = random.Random(f"{seed}/{case}")
                with contextlib.suppress(UnfitError):
                    yield case, mutate(files, mutator, chance)


def main() -> None:
    """Run the cases that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=1, help="run one in so many of the damaged models")
    parser.add_argument("--only", default="", help="part of the names of the cases to run")
    parser.add_argument("--save", type=Path, help="folder for the files of cases that are neither refused nor work")
    parser.add_argument("models", nargs="*", type=Path, help="damaged too; without one the built-in models are")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    # A user waits a minute for a loop or a trial that does not end; thousands of cases are not given that long.
    control.MAX_TRIPS = 2**10
    trial.MAX_TRIAL_SECONDS = 0.5
    models = {path.stem: {"model.onnx": path.read_bytes()} for path in arguments.models} or valid()
    kept = {f"{name}/sound/0": files for name, files in models.items()}
    if not arguments.models:
        kept |= {f"{name}/absurd/0": files for name, files in absurd().items()}
    damaged = cases(models, arguments.rounds, arguments.seed)
    for case, files in chain(kept.items(), islice(damaged, 0, None, arguments.every)):
        if arguments.only in case:
            result = run_case(case, files)
            sys.stdout.write(json.dumps(asdict(result)) + "\n")
            sys.stdout.flush()
            if arguments.save and result.outcome not in ("works", "refused"):
                folder = arguments.save / case.replace("/", "-")
                folder.mkdir(parents=True, exist_ok=True)
                for name, data in files.items():
                    (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
