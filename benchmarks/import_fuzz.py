"""What becomes of thousands of damaged models: they work or are refused by name, whatever was done to them.

python benchmarks/import_fuzz.py [--rounds N] [--seed S]

Small models of every kind are damaged N times in every way, and the real models of ../shared, where they are there,
once. See tests/graph/fuzzing/run.py for what is done with each, and for the outcomes.
"""

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from common import RESULTS, ROOT, SHARED, machine, save, table

SCRIPT = ROOT / "tests" / "graph" / "fuzzing" / "run.py"
OUTCOMES = ("works", "refused", "error", "hang", "crash", "memory")


def run(arguments: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the results of the fuzzer, and tell of those that are findings as they come."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stdout or ():
            result = json.loads(line)
            if result["outcome"] not in ("works", "refused") or (
                result["outcome"] == "refused" and not result["named"]
            ):
                print(f"{result['case']}: {result['outcome']} in {result['stage']}: {result['error']}", flush=True)
            yield result
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def rows(results: Iterable[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Return the number of cases by way of damage and outcome."""
    counts: dict[str, Counter[str]] = {}
    for result in results:
        counts.setdefault(result["case"].split("/")[-2], Counter())[result["outcome"]] += 1
    return {name: {outcome: count[outcome] for outcome in OUTCOMES} for name, count in counts.items()}


def summary(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what is reported of one set of models."""
    stages = Counter(result["stage"] for result in results if result["outcome"] == "refused")
    return {
        "cases": len(results),
        "models": len({result["case"].split("/")[0] for result in results}),
        "outcomes": {outcome: sum(result["outcome"] == outcome for result in results) for outcome in OUTCOMES},
        "refused_in": dict(stages.most_common()),
        "refused_without_a_name": sum(result["outcome"] == "refused" and not result["named"] for result in results),
        "slowest_s": max(result["seconds"] for result in results),
        "largest_peak_bytes": max(result["peak_bytes"] for result in results),
        "by_damage": rows(results),
        "findings": [
            {key: result[key] for key in ("case", "outcome", "stage", "error")}
            for result in results
            if result["outcome"] not in ("works", "refused")
        ],
    }


def main() -> None:
    """Run the fuzzer over small and real models and save the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    result: dict[str, Any] = {"rounds": arguments.rounds, "seed": arguments.seed, **machine()}
    result["small"] = summary(list(run(["--rounds", str(arguments.rounds), "--seed", str(arguments.seed)])))
    models = sorted(map(str, (SHARED / "models").rglob("*.onnx")))
    if models:
        result["real"] = summary(list(run(["--seed", str(arguments.seed), *models])))
    save("import_fuzz", result)
    parts = [(name, result[name]) for name in ("small", "real") if name in result]
    lines = [
        [f"{name} models, {damage.replace('_', ' ')}", *(str(counts[outcome]) for outcome in OUTCOMES)]
        for name, part in parts
        for damage, counts in part["by_damage"].items()
    ]
    lines += [
        [f"**{name} models, all**", *(str(part["outcomes"][outcome]) for outcome in OUTCOMES)] for name, part in parts
    ]
    text = table(("damage", *OUTCOMES), lines)
    (RESULTS / "import_fuzz.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
