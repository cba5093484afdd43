"""Memory of calibration: what a process takes at its peak with 100, 1,000 and 10,000 calibration samples.

    python benchmarks/calibration_memory.py   # results/calibration_memory.json and the table in docs

ResNet-20 on the training images of CIFAR-10, int8 without training. Every figure is the peak resident memory of a
process of its own. The peers' entropy calibration holds the values of every layer for every sample, so that 10,000
samples are not tried there.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from cifar10 import PREPROCESSING, images, options, original
from common import RESULTS, ROOT, fill_readme, machine, save, table, take_no_arguments
from onnxruntime.quantization import CalibrationMethod, quantize_static
from peers import STATIC, Reader, prepare

from calibration.data import load_data
from toolchain.graph import load_graph

MODEL = "resnet20"
SAMPLES = (100, 1_000, 10_000)
MOST_OF_PEERS = 1_000
PEERS = {
    "ONNX Runtime static, minmax": CalibrationMethod.MinMax,
    "ONNX Runtime static, entropy": CalibrationMethod.Entropy,
}
OURS = "compress --quant 8bit --epochs 0"


def ours(samples: int, folder: Path) -> None:
    """Calibrate by the command, in every respect as a user would."""
    recipe = folder / "recipe.toml"
    recipe.write_text(f"[calibration]\nsamples = {samples}\n")
    command = [sys.executable, "-m", "toolchain", *options(MODEL, 0), "--quant", "8bit", "--recipe", str(recipe)]
    subprocess.run([*command, "-o", str(folder / "ours.onnx"), "--quiet"], check=True, cwd=ROOT)


def peer(method: CalibrationMethod, samples: int, folder: Path) -> None:
    """Calibrate by ``quantize_static``; samples are read when they are asked for."""
    data = load_data(str(images()[0]), load_graph(original(MODEL)), PREPROCESSING).train
    rows = np.linspace(0, len(data) - 1, samples).round().astype(np.int64)
    feeds = (dict(data.batch(rows[i : i + 1]).feeds) for i in range(samples))
    model = prepare(original(MODEL), folder)
    quantize_static(model, folder / "peer.onnx", Reader(feeds), calibrate_method=method, **STATIC)


def peak(run: Callable[[Path], None]) -> int:
    """Return the peak resident memory in bytes of a process that runs this, and of the processes that it starts."""
    with tempfile.TemporaryDirectory() as folder:
        process = multiprocessing.get_context("fork").Process(target=_quietly, args=(run, Path(folder)))
        process.start()
        assert process.pid is not None
        _, status, used = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"a calibration ended with status {status}")
    return used.ru_maxrss * 1024


def _quietly(run: Callable[[Path], None], folder: Path) -> None:
    with (folder / "log").open("w") as log:
        os.dup2(log.fileno(), 1)
        run(folder)


def main() -> None:
    """Measure, save, write the table."""
    take_no_arguments(__doc__)
    rows = {OURS: {samples: peak(partial(ours, samples)) for samples in SAMPLES}}
    for name, method in PEERS.items():
        counts = [samples for samples in SAMPLES if samples <= MOST_OF_PEERS]
        rows[name] = {samples: peak(partial(peer, method, samples)) for samples in counts}
    save("calibration_memory", {**machine(), "rows": rows})
    header = ["calibrated by", *(f"{samples:,} samples" for samples in SAMPLES)]
    lines = [
        [name, *(f"{found[n] / 2**20:,.0f} MiB" if n in found else "" for n in SAMPLES)] for name, found in rows.items()
    ]
    text = table(header, lines)
    (RESULTS / "calibration_memory.md").write_text(text)
    fill_readme("calibration_memory", text)
    print(text)


if __name__ == "__main__":
    main()
