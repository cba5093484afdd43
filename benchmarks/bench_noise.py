"""How far ``compress bench`` can be trusted: a model against itself, and against one made 10 % slower on purpose.

    python benchmarks/bench_noise.py                 # writes results/bench_noise.json and .md; about 5 minutes
    python benchmarks/bench_noise.py --repeats 1

Each comparison is one command, in a process of its own. Of a model against its copy, the interval of the speedup must
contain 1.00 and be narrower than 5 %, within 20 seconds. The slower model has 22 convolutions in a row instead of 20;
its interval must lie below 1.00. It needs no data, and a quiet machine for figures that are worth keeping.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from common import RESULTS, ROOT, machine, save, table
from onnx import TensorProto, helper, numpy_helper

# Name, channels, height and width: convolutions of 3x3 that take some 5, 40 and 500 us each on one core.
SIZES = (("small", 8, 14), ("middle", 16, 32), ("large", 64, 28))
CONVOLUTIONS, SLOWER = 20, 22
SECONDS = 12.0
STARTS = 7

# Ends where the first model would be measured, in an installation without torch.
START = """
import sys, time
sys.modules["torch"] = None
from toolchain.bench import probe
from toolchain.cli import main
probe._ask = lambda *_: sys.exit(0)
main(sys.argv[1:])
"""
WIDEST, LONGEST_S = 0.05, 20.0


def main() -> None:
    """Compare every model with its copy and with its slower version, and save what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    load = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as name:
        cases = [
            case
            for number in range(repeats)
            for size, channels, side in SIZES
            for case in compare(Path(name), size, channels, side, number)
        ]
        start = start_up(Path(name))
    load.append(os.getloadavg()[0])
    passed = sum(case["passed"] for case in cases)
    result = {"cases": cases, "passed": passed, "seconds": SECONDS, "load_average": load, **start, **machine()}
    text = described(result)
    print(text)
    save("bench_noise", result)
    (RESULTS / "bench_noise.md").write_text(text)


def described(result: dict[str, Any]) -> str:
    """Return the table, and what its reader has to know of the machine."""
    before, after = result["load_average"]
    return (
        table(HEADER, [row(case) for case in result["cases"]])
        + f"\n{result['passed']} of {len(result['cases'])} as they should be, on a machine of {result['cores']} cores "
        f"whose load average was {before:.1f} before and {after:.1f} after.\n"
        f"The command begins to measure after {result['start_s']:.2f} s, {result['start_processor_s']:.2f} s of which "
        "the processor works for it.\n"
    )


def compare(folder: Path, size: str, channels: int, side: int, number: int) -> list[dict[str, Any]]:
    """Return the figures of a model against its copy, and against its slower version."""
    original, copy, slower = (folder / f"{size}-{name}.onnx" for name in ("original", "copy", "slower"))
    if not number:
        build(original, CONVOLUTIONS, channels, side)
        shutil.copy(original, copy)
        build(slower, SLOWER, channels, side)
    return [bench(size, *pair) for pair in ((original, copy, 1.0), (original, slower, CONVOLUTIONS / SLOWER))]


def build(path: Path, count: int, channels: int, side: int) -> None:
    """Write a chain of ``count`` convolutions with ReLU, whose values neither grow nor vanish."""
    rng = np.random.default_rng(0)
    nodes, weights = [], []
    for number in range(count):
        values = rng.standard_normal((channels, channels, 3, 3), np.float32) * (2 / (9 * channels)) ** 0.5
        weights.append(numpy_helper.from_array(values, f"w{number}"))
        nodes.append(helper.make_node("Conv", [f"x{number}", f"w{number}"], [f"c{number}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"x{number + 1}"]))
    shape = [1, channels, side, side]
    ports = [helper.make_tensor_value_info(f"x{number}", TensorProto.FLOAT, shape) for number in (0, count)]
    graph = helper.make_graph(nodes, "chain", ports[:1], ports[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def bench(size: str, original: Path, other: Path, expected: float) -> dict[str, Any]:
    """Return what one command found, and whether it is as it should be."""
    command = [sys.executable, "-m", "toolchain", "bench", str(original), str(other), "--threads", "1", "--json"]
    print(f"$ compress bench {original.name} {other.name} --threads 1 --seconds {SECONDS:g}", flush=True)
    started = time.monotonic()
    done = subprocess.run(
        [*command, "--seconds", str(SECONDS), "--quiet"], check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    seconds = time.monotonic() - started
    first, second = json.loads(done.stdout)["cases"][0]["models"]
    low, high = second["speedup_ci95"]
    width = (high - low) / second["speedup"]
    as_it_should = low <= 1 <= high and width < WIDEST and seconds < LONGEST_S if expected == 1 else high < 1
    return {
        "model": size,
        "against": "its copy" if expected == 1 else "10 % slower",
        "p50_ms": first["p50_ms"],
        "expected": expected,
        "speedup": second["speedup"],
        "speedup_ci95": [low, high],
        "width": width,
        "noisy": second["noisy"],
        "seconds": seconds,
        "passed": as_it_should,
    }


def start_up(folder: Path) -> dict[str, float]:
    """Return median seconds, of the clock and of the processor, from the start to where the first model is measured."""
    models = [str(folder / f"small-{name}.onnx") for name in ("original", "copy")]
    wall, processor = [], []
    for _ in range(STARTS):
        started, before = time.perf_counter(), os.times()
        subprocess.run([sys.executable, "-c", START, "bench", *models, "--quiet"], check=True, cwd=ROOT)
        after = os.times()
        wall.append(time.perf_counter() - started)
        processor.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return {"start_s": statistics.median(wall), "start_processor_s": statistics.median(processor)}


HEADER = ("model", "p50", "against", "speedup to expect", "measured (95 %)", "width", "took", "")


def row(case: dict[str, Any]) -> list[str]:
    """Return a line of the table."""
    low, high = case["speedup_ci95"]
    return [
        case["model"],
        f"{case['p50_ms']:.3f} ms",
        case["against"],
        f"{case['expected']:.3f}",
        f"{case['speedup']:.3f} ({low:.3f} to {high:.3f})",
        f"{case['width']:.1%}",
        f"{case['seconds']:.1f} s",
        "as it should be" if case["passed"] else "not as it should be",
    ]


if __name__ == "__main__":
    main()
