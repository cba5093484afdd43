"""How long ``compress --help`` takes, so that the command feels instant.

python benchmarks/startup.py
"""

import statistics
import subprocess
import sys
import time

from common import ROOT, machine, save, take_no_arguments

RUNS = 15


def main() -> None:
    """Time the help text, process start included."""
    take_no_arguments(__doc__)
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "toolchain", "--help"], check=True, cwd=ROOT, capture_output=True)
        times.append(time.perf_counter() - started)
    result = {"runs": RUNS, "median_s": statistics.median(times), "max_s": max(times), **machine()}
    save("startup", result)
    print(f"compress --help: median {result['median_s']:.3f} s, slowest {result['max_s']:.3f} s of {RUNS}")


if __name__ == "__main__":
    main()
