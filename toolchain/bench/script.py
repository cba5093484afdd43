"""``--script`` and ``--from``: the probe as one file to copy by hand, and what it wrote, read back."""

import base64
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onnxruntime as ort

from toolchain.bench import by_hand, probe
from toolchain.bench.complaints import printable
from toolchain.bench.foreign import check_result, read_arrays, read_json, reason, understood
from toolchain.bench.measurement import Settings, add_host, describe, make_job, prepare_inputs
from toolchain.bench.reference import Reference
from toolchain.bench.remote import named_files, note_version
from toolchain.errors import BenchError
from toolchain.files import sha256
from toolchain.graph import write_atomically
from toolchain.progress import Progress

ENTRY = '\n\nif __name__ == "__main__":\n    main(sys.argv[1:])\n'  # of the probe; the script has its own
FUTURE = "from __future__ import annotations\n"  # only the top of a file may have it
OF_PROBE = "from toolchain.bench.probe import Job, main, run\n"
LINE = 100  # characters of embedded text

HEADER = """\
# Measures {names} in ONNX Runtime on the machine that it runs on.
#
# It needs Python 3.8 or newer, and:  python3 -m pip install numpy onnxruntime=={version}
# (or the newest onnxruntime that there is for the machine). It connects to nothing and installs nothing.
#
#   1. Copy into one folder there: {files}
#   2. Run there: python3 {script} {result}
#   3. Copy {result} back, and run: compress bench {models} --from {result}
#
# Written by compress bench --script.
"""


def write_script(models: Sequence[Path], settings: Settings, target: Path) -> str:
    """Write the script that measures ``models`` to ``target``, and return its instructions.

    Args:
        models: files; the first is what the others are compared with.
        settings: how they are measured.
        target: the script.

    Raises:
        ToolchainError: a file is no model, inputs do not fit, or names collide in one folder.
    """
    prepared = prepare_inputs(models, settings)
    files = {file.resolve(): name for path in models for name, file in named_files(path)}
    names = list(files.values())
    if len(set(names)) < len(names) or target.name in names:
        raise BenchError(
            f"{', '.join(names)} and {target.name} cannot lie in one folder: names are the same",
            hint="rename the models, so that they can be copied into one folder",
        )
    with tempfile.TemporaryDirectory(prefix="compress-bench-") as name:
        job = make_job(models, settings, prepared, Path(name), outputs=True)
        feeds = {Path(case.feeds).name: Path(case.feeds).read_bytes() for case in job.cases}
    there = replace(
        job,
        models=[replace(model, path=path.name) for model, path in zip(job.models, models, strict=True)],
        cases=[replace(case, feeds=Path(case.feeds).name) for case in job.cases],
    )
    encoded = {file: base64.b64encode(data).decode() for file, data in feeds.items()}
    header = HEADER.format(
        names=_listed(path.name for path in models),
        version=ort.__version__,
        files=_listed([target.name, *names]),
        script=target.name,
        result="result.json",
        models=" ".join(map(str, models)),
    )
    content = {"job": asdict(there), "sha256": [sha256(path) for path in models], "feeds": encoded}
    write_atomically(target, _source(header, json.dumps(content)).encode())
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in header.splitlines()[2:-2]).strip("\n")


def _listed(names: Any) -> str:  # noqa: ANN401 - anything to iterate over
    return ", ".join(printable(str(name)).replace("\n", " ") for name in names)


def _source(header: str, embedded: str) -> str:
    """Return the script: header, probe, what runs it, and the job with its feeds."""
    measuring = Path(probe.__file__).read_text(encoding="utf-8")
    starting = Path(by_hand.__file__).read_text(encoding="utf-8").partition(FUTURE)[2]
    if not measuring.endswith(ENTRY) or starting.count(OF_PROBE) != 1:
        raise BenchError("the installed probe is not the one that this version of the script is made from")
    lines = "\n".join(f"    {embedded[at : at + LINE]!r}" for at in range(0, len(embedded), LINE))
    return f"{header}{measuring.removesuffix(ENTRY)}\n{starting.replace(OF_PROBE, '')}\n\nstart(\n{lines}\n)\n"


def read_by_hand(source: Path, models: Sequence[Path], progress: Progress) -> dict[str, Any]:
    """Return the bench document of what the script wrote on another machine.

    Args:
        source: the file that it wrote.
        models: the files that it measured, in the same order.
        progress: is told how far it is.

    Raises:
        ToolchainError: the file is of something else, or of other models.
    """
    hint = "give what the script of compress bench --script wrote, complete"
    try:
        content = read_json(source.read_bytes())
        if content["kind"] != "bench by hand" or content["format"] != by_hand.RESULT_FORMAT:
            raise BenchError(f"{source} is no result that this version reads", hint=hint)
        job = probe.Job.of(content["job"])
        digests = [str(digest) for digest in content["sha256"]]
        feeds = {name: base64.b64decode(data, validate=True) for name, data in content["feeds"].items()}
        outputs = base64.b64decode(content["outputs"], validate=True)
    except OSError as error:
        raise BenchError(f"cannot read {source}: {error.strerror}", hint=hint) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:  # binascii's is a ValueError
        raise BenchError(f"{source} is no result of a measurement: {reason(error)}", hint=hint) from error
    settings = Settings(optimization=job.optimization, seconds=job.seconds)
    document = describe(models, settings, [])
    _check_same(source, [model.name for model in job.models], digests, document["models"])
    with understood(str(source)):
        _add(document, content, replace(job, models=_named(job, models)), (feeds, outputs), progress)
    return document


def _check_same(
    source: Path, names: Sequence[str], digests: Sequence[str], models: Sequence[Mapping[str, Any]]
) -> None:
    """Check that these files are the measured ones, in the same order.

    Raises:
        BenchError: which is not.
    """
    if digests == [model["sha256"] for model in models]:
        return
    if [model["name"] for model in models] == list(names) and len(digests) == len(models):
        changed = [model["path"] for model, digest in zip(models, digests, strict=True) if model["sha256"] != digest]
        raise BenchError(
            f"{source} is of {_listed(names)} with other bytes in {_listed(changed)} than here",
            hint="copy the files of here to the device and measure again, or give those that were measured",
        )
    raise BenchError(
        f"{source} is of other files than {_listed(model['path'] for model in models)}",
        hint=f"give, in this order, what was measured there: {_listed(names)}",
    )


def _named(job: probe.Job, models: Sequence[Path]) -> list[probe.Model]:
    return [replace(model, path=str(path)) for model, path in zip(job.models, models, strict=True)]


def _add(
    document: dict[str, Any],
    content: Mapping[str, Any],
    job: probe.Job,
    arrays: tuple[Mapping[str, bytes], bytes],
    progress: Progress,
) -> None:
    """Add the figures of the result, and how its outputs differ from this machine's."""
    feeds, outputs = arrays
    host, result = printable(str(content["host"])), check_result(content["result"], job)
    with tempfile.TemporaryDirectory(prefix="compress-bench-") as name:
        folder = Path(name)
        paths = {file: folder / f"given-{number}.npz" for number, file in enumerate(feeds)}
        for file, data in feeds.items():
            read_arrays(data)
            paths[file].write_bytes(data)
        cases = [replace(case, feeds=str(paths[case.feeds])) for case in job.cases]
        reference = Reference(replace(job, cases=cases), folder, progress)
        add_host(document, host, result)
        for case, row, found in zip(cases, document["cases"], result["cases"], strict=True):
            document["notes"] += reference.add_differences(row, case.feeds, found, outputs)
    note_version(document, host, result["environment"])
