"""Schedules and scores of pruning side by side, at an equal time: what the default is chosen by.

    python benchmarks/schedules.py run sharp 246x                    # one row
    python benchmarks/schedules.py all --jobs 2                      # every row that is not there yet, some at a time
    python benchmarks/schedules.py table                             # results/schedules.md and the table in docs

LeNet-5 on MNIST, 10 minutes on one core each; accuracy is on the 10,000 test images, which neither train nor
select. The loss, on the images that select, tells more: accuracy differs by 0.1 points between seeds. Every row differs
from the default in one thing. The reweighted schedule ranks by its own prices.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common import RESULTS, compress, fill_readme, machine, save, shared, table
from lenet5 import MODEL, data_options

BUDGET = "10m"
RATIOS = ("100x", "246x")
TRAINING, BATCH_SIZE = ["--augment", "none", "--precision", "bfloat16", "--learning-rate", "4e-3"], 128
# What differs from the default, by name; the default itself is the frequent schedule, ranked by curvature.
VARIANTS: dict[str, dict[str, str | float]] = {
    "default": {},
    "sharp": {"schedule": "sharp"},
    "one-shot": {"schedule": "one-shot"},
    "progressive": {"schedule": "progressive"},
    "reweighted": {"schedule": "reweighted"},
    "magnitude": {"score": "magnitude"},
    "normalised": {"score": "normalised"},
    "lamp": {"score": "lamp"},
}


def run(variant: str, ratio: str, seed: int) -> None:
    """Compress once and save what came out."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "recipe.toml"
        lines = [f"{key} = {json.dumps(value)}" for key, value in VARIANTS[variant].items()]
        recipe.write_text("\n".join(["[train]", f"batch_size = {BATCH_SIZE}", "[prune_schedule]", *lines, ""]))
        options = ["--prune", ratio, "--budget", BUDGET, "--seed", str(seed), "--recipe", str(recipe), *TRAINING]
        done = compress([str(shared(*MODEL)), *options, *data_options()], Path(folder) / "pruned.onnx")
    convergence = done.report["convergence"]
    last = [entry["selection_loss"] for entry in convergence if entry["phase"] == convergence[-1]["phase"]]
    result = {
        "variant": variant,
        "options": VARIANTS[variant],
        "ratio": ratio,
        "seed": seed,
        "budget": BUDGET,
        "seconds": done.seconds,
        "accuracy": done.report["quality"]["compressed"],
        "loss": min(last),  # on the selection data, of the state that is kept
        "steps": {entry["phase"]: entry["step"] for entry in convergence},
        **machine(),
    }
    save(f"schedules/{_key(variant, ratio, seed)}", result)


def run_all(jobs: int) -> None:
    """Run every row that has no result yet, ``jobs`` at a time, each in a process of its own."""
    rows = [(variant, ratio) for ratio in RATIOS for variant in VARIANTS]
    missing = [row for row in rows if not (RESULTS / "schedules" / f"{_key(*row, 0)}.json").exists()]
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(lambda row: subprocess.run([sys.executable, __file__, "run", *row], check=True), missing))


def _key(variant: str, ratio: str, seed: int) -> str:
    return f"{variant.replace(' ', '-')}-{ratio}-seed{seed}"


def write_table() -> None:
    """Write ``results/schedules.md``: a row per variant, a column per ratio."""
    results = [json.loads(file.read_text()) for file in (RESULTS / "schedules").glob("*.json")]
    rows = []
    for variant, options in VARIANTS.items():
        found = {result["ratio"]: result for result in results if result["variant"] == variant}
        steps = max((sum(result["steps"].values()) for result in found.values()), default=0)
        shown = [
            f"{100 * found[ratio]['accuracy']:.2f} %, {found[ratio]['loss']:.4f}" if ratio in found else ""
            for ratio in RATIOS
        ]
        changes = ", ".join(f"{key} = {value}" for key, value in options.items())
        rows.append([variant, changes, *shown, f"{steps:,}"])
    text = table(["variant", "[prune_schedule]", *RATIOS, f"steps in {BUDGET}"], rows)
    (RESULTS / "schedules.md").write_text(text)
    fill_readme("schedules", text)
    print(text)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run")
    one.add_argument("variant", choices=VARIANTS)
    one.add_argument("ratio", choices=RATIOS)
    one.add_argument("--seed", type=int, default=0)
    every = commands.add_parser("all")
    every.add_argument("--jobs", type=int, default=2)
    commands.add_parser("table")
    arguments = parser.parse_args()
    if arguments.command == "run":
        run(arguments.variant, arguments.ratio, arguments.seed)
    elif arguments.command == "all":
        run_all(arguments.jobs)
    else:
        write_table()


if __name__ == "__main__":
    main()
