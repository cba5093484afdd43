"""What the benchmarks share: running the command as a user would, and writing results as JSON and as a table."""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
RESULTS = ROOT / "benchmarks" / "results"
DETAILS = ("quantiles_ms", "layers", "classes", "worst", "histogram")  # of a report


@dataclass(frozen=True)
class Run:
    """One finished command: its report, wall time in seconds and peak resident memory in bytes."""

    report: dict[str, Any]
    seconds: float
    peak_bytes: int


def take_no_arguments(description: str | None) -> None:
    """Answer ``--help``, and refuse what a benchmark without arguments is given, before anything is measured."""
    argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()


def shared(*parts: str) -> Path:
    """Return a file of the shared data and models, or end with the reason why the benchmark is skipped."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        sys.exit(f"skipped: {'/'.join(parts)} is not there (it is not part of the project)")
    return path


def compress(arguments: Sequence[str], output: Path) -> Run:
    """Run ``compress`` in a process of its own and return what it reported.

    Raises:
        subprocess.CalledProcessError: the command failed.
    """
    folder = output.with_suffix(".report")
    command = [sys.executable, "-m", "toolchain", *arguments, "-o", str(output), "--report", str(folder)]
    print("$ compress", " ".join(arguments), flush=True)
    started = time.monotonic()
    subprocess.run(command, check=True, cwd=ROOT)
    seconds = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024  # the largest child so far
    return Run(json.loads((folder / "report.json").read_text()), seconds, peak)


def without_details(value: Any) -> Any:  # noqa: ANN401 - a JSON value is anything
    """Return a part of a report without what only its page needs."""
    if isinstance(value, dict):
        return {key: without_details(inner) for key, inner in value.items() if key not in DETAILS}
    return [without_details(inner) for inner in value] if isinstance(value, list) else value


def fill_readme(name: str, text: str) -> None:
    """Put ``text`` between the markers of that name, in the README or a page of ``docs``.

    Raises:
        ValueError: neither has such markers.
    """
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        before, found, rest = path.read_text().partition(start)
        _, closed, after = rest.partition(end)
        if found and closed:
            path.write_text(f"{before}{start}{text}{end}{after}")
            return
    raise ValueError(f"neither README.md nor docs/*.md has {start.strip()} ... {end}")


def machine() -> dict[str, str | int | None]:
    """Return what a figure's reader needs to know of the machine."""
    threads = os.environ.get("OMP_NUM_THREADS")
    return {"machine": platform.machine(), "cores": os.cpu_count(), "threads": int(threads) if threads else None}


def save_times(name: str, rows: dict[str, Any]) -> None:
    """Save the latency of some files beside what was timed before: models are not kept in the repository."""
    path = RESULTS / name / "latency.json"
    earlier = json.loads(path.read_text())["rows"] if path.exists() else {}
    save(f"{name}/latency", {**machine(), "rows": dict(sorted({**earlier, **rows}.items()))})


def read_times(name: str) -> dict[str, Any]:
    """Return what ``python benchmarks/NAME.py latency`` saved, by file, or end with the hint to run it."""
    path = RESULTS / name / "latency.json"
    if not path.exists():
        sys.exit(f"nothing is timed yet: python benchmarks/{name}.py latency")
    rows: dict[str, Any] = json.loads(path.read_text())["rows"]
    return rows


def timed(name: str, result: dict[str, Any], times: dict[str, Any]) -> dict[str, Any]:
    """Return the latency of a result among all others, or as it was when the file was made."""
    if name not in times and "latency" not in result:
        sys.exit(f"{name} is not timed yet: run this benchmark with latency first")
    found: dict[str, Any] = times[name] if name in times else result["latency"][0]
    return found


def save(name: str, result: dict[str, Any]) -> Path:
    """Write ``results/NAME.json``, in which no folder of this machine is named."""
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1).replace(f"{SHARED}/", "shared/").replace(f"{ROOT}/", "") + "\n")
    return path


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
