"""What ``compress bench --script`` adds to the probe, so that one file measures on a machine to which nobody connects.

It is appended to ``probe.py`` without the import of it.
"""
# ruff: noqa: T201 - a script prints

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from toolchain.bench.probe import Job, main, run

RESULT_FORMAT = 1


def measure_by_hand(embedded: str, arguments: Sequence[str]) -> None:
    """Measure the models that lie beside the script, and write one JSON file.

    Args:
        embedded: JSON of ``{job, sha256, feeds}``: the probe's job with the models' file names, the digest of each
            model, and its feeds in base64.
        arguments: the file to write, and what to call this machine; both may be left out.
    """
    if len(arguments) > 2 or any(argument.startswith("-") for argument in arguments):
        sys.exit("usage: python3 " + Path(__file__).name + " [RESULT.json [NAME OF THIS MACHINE]]")
    target = Path(arguments[0] if arguments else "result.json").resolve()
    host = arguments[1] if len(arguments) > 1 else platform.node() or "device"
    content = json.loads(embedded)
    beside = Path(__file__).resolve().parent
    job = Job.of(content["job"])
    job = replace(job, models=[replace(model, path=str(beside / model.path)) for model in job.models])
    missing = [Path(model.path).name for model in job.models if not Path(model.path).is_file()]
    if missing:
        sys.exit(f"error: not beside this script: {', '.join(missing)}\nhint: copy to {beside}")
    digests = [hashlib.sha256(Path(model.path).read_bytes()).hexdigest() for model in job.models]
    changed = [model.path for index, model in enumerate(job.models) if content["sha256"][index] != digests[index]]
    if changed:
        sys.exit(
            f"error: not what this script was written for: {', '.join(changed)}\nhint: copy models and script anew"
        )
    part = target.with_name(target.name + ".part")
    with _written(target):  # before minutes are spent
        part.touch()
        part.unlink()
    with tempfile.TemporaryDirectory(prefix="compress-bench-") as name:
        folder = Path(name)
        for file, data in content["feeds"].items():
            (folder / file).write_bytes(base64.b64decode(data))
        cases = [replace(case, feeds=str(folder / case.feeds)) for case in job.cases]
        result = run(replace(job, cases=cases), folder, lambda what, done: print(f"{done:4.0%} {what}", flush=True))
        document = {
            "kind": "bench by hand",
            "format": RESULT_FORMAT,
            "host": host,
            "job": asdict(Job.of(content["job"])),
            "feeds": content["feeds"],
            "sha256": digests,
            "result": result,
            "outputs": base64.b64encode((folder / "outputs.npz").read_bytes()).decode("ascii"),
        }
    with _written(target):
        part.write_text(json.dumps(document), encoding="utf-8")
        os.replace(part, target)  # noqa: PTH105 - what is there is replaced on every system
    for case in result["cases"]:
        failed = [f"{model['name']}: {model['error']['message']}" for model in case["models"] if model["error"]]
        for why in [*([case["error"]] if case["error"] else []), *failed]:
            print(f"error: {why}", file=sys.stderr)
    print(f"wrote {target}; copy it back and give it to: compress bench MODELS --from {target.name}")


@contextmanager
def _written(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        sys.exit(f"error: cannot write {target}: {error.strerror}")


def start(embedded: str) -> None:
    """Begin, or do one stage of it: the probe runs this file again for each."""
    if sys.argv[1:2] == ["--stage"]:
        main(sys.argv[1:])
        return
    try:
        measure_by_hand(embedded, sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit("interrupted: nothing is written")
