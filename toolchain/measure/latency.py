"""Latency of the original and the compressed file, interleaved in one process, with the speedup's confidence."""

import gc
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch

from calibration.dataset import Batch
from toolchain.errors import ExportError
from toolchain.measure.environment import cpu_model
from toolchain.measure.session import CPU, available_cores, open_session, run_session

PROVIDERS = (CPU, "CUDAExecutionProvider", "TensorrtExecutionProvider")

ROUNDS = 8  # fresh sessions of both files: where their weights lie in memory differs, and with it the latency
LOAD_SHARE = 0.3  # of the time, at most, goes into loading more than once
MIN_PAIRS = 6
MAX_PAIRS = 4000  # over all rounds
WARM_UP_SHARE = 0.1
MIN_WARM_UP = 3
CURVE_POINTS = 200  # quantiles of each distribution that the report keeps for its chart
RESAMPLES = 1000
SEED = 0  # of the order of the runs and of the bootstrap


def measure_latency(
    original: Path,
    compressed: Path,
    batch: Batch,
    threads: int | None = None,
    seconds: float = 6.0,
    providers: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Return one row of the report's ``latency`` section per execution provider.

    Both files run in one process, in balanced random order, on the same batch. A time is from numpy arrays in host
    memory to numpy arrays in host memory, so on a GPU it includes the copies. ``speedup`` is the ratio of the medians.

    Args:
        original: the model before.
        compressed: the model after; takes the same inputs.
        batch: the samples of one run.
        threads: threads of one operator; None takes every core this process may use.
        seconds: about how long to measure per provider; a slow model takes the time of a few runs at least.
        providers: execution providers; None takes the CPU, and CUDA and TensorRT where the runtime offers them.

    Raises:
        ExportError: a file does not run on the CPU. Another provider that fails has ``error`` in its row instead.
    """
    offered = ort.get_available_providers()
    rows = []
    for provider in providers or [name for name in PROVIDERS if name in offered]:
        row: dict[str, Any] = {
            "provider": provider,
            "device": _device(provider),
            "threads": threads or available_cores(),
            "batch": len(batch),
        }
        try:
            row |= _measure((original, compressed), provider, batch.feeds, row["threads"], seconds)
        except ExportError as error:
            if provider == CPU:
                raise
            row["error"] = str(error)
        rows.append(row)
    return rows


def _device(provider: str) -> str:
    if provider == CPU:
        return cpu_model()
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else platform.node()


def _measure(
    paths: tuple[Path, Path], provider: str, feeds: Mapping[str, np.ndarray], threads: int, seconds: float
) -> dict[str, Any]:
    rng = np.random.default_rng(SEED)
    loads_ms: list[tuple[float, float]] = []
    rounds_ms: list[np.ndarray] = []
    count = 1
    while len(rounds_ms) < count:
        sessions, spent = _load(paths, provider, threads, first=int(rng.integers(2)))
        for session in sessions:
            run_session(session, feeds)  # a feed that does not fit is reported here, with its shape
        loads_ms.append(spent)
        if not rounds_ms:
            count = min(ROUNDS, max(1, int(1e3 * seconds * LOAD_SHARE / sum(spent))))
        share = seconds * (1 - LOAD_SHARE) / count
        rounds_ms.append(1e3 * _interleave(sessions, feeds, share, MAX_PAIRS // count, rng))
        sessions.clear()  # gives the memory back before the next ones take theirs
    times_ms, load_ms = np.concatenate(rounds_ms), np.median(loads_ms, axis=0)
    median = np.median(times_ms, axis=0)
    return {
        "original": summarize(times_ms[:, 0]),
        "compressed": summarize(times_ms[:, 1]),
        "speedup": float(median[0] / median[1]),
        "speedup_ci95": list(bootstrap_speedup(rounds_ms, rng)),
        "load_ms": {"original": float(load_ms[0]), "compressed": float(load_ms[1])},
        "sessions": count,
    }


def _load(
    paths: tuple[Path, Path], provider: str, threads: int, first: int
) -> tuple[list[ort.InferenceSession], tuple[float, float]]:
    """Return a session per path, opened from index ``first`` on, and the time in ms that each took."""
    sessions: dict[int, ort.InferenceSession] = {}
    spent = [0.0, 0.0]
    for index in (first, 1 - first):
        start = time.perf_counter()
        sessions[index] = open_session(paths[index], provider, threads)
        spent[index] = 1e3 * (time.perf_counter() - start)
    return [sessions[0], sessions[1]], (spent[0], spent[1])


def _interleave(
    sessions: Sequence[ort.InferenceSession],
    feeds: Mapping[str, np.ndarray],
    seconds: float,
    limit: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the seconds of at most ``limit`` paired runs, shape ``[pairs, 2]``.

    Of every two pairs one runs the original first and one the compressed file first, which of them is random: each
    file is preceded as often by itself as by the other, so neither finds the caches warmer.
    """
    inputs = dict(feeds)
    end = time.perf_counter() + seconds * WARM_UP_SHARE
    warm_ups = 0
    while warm_ups < MIN_WARM_UP or (warm_ups < limit and time.perf_counter() < end):
        _time_pair(sessions, inputs, 0)
        warm_ups += 1
    pairs: list[tuple[float, float]] = []
    end = time.perf_counter() + seconds * (1 - WARM_UP_SHARE)
    collects = gc.isenabled()
    gc.disable()  # a collection would land in a random run
    try:
        while len(pairs) < MIN_PAIRS or (len(pairs) < limit and time.perf_counter() < end):
            first = int(rng.integers(2))
            pairs += [_time_pair(sessions, inputs, first), _time_pair(sessions, inputs, 1 - first)]
    finally:
        if collects:
            gc.enable()
    return np.array(pairs)


def _time_pair(
    sessions: Sequence[ort.InferenceSession], inputs: dict[str, np.ndarray], first: int
) -> tuple[float, float]:
    """Return the seconds of one run of each session; the one at index ``first`` runs first."""
    spent = [0.0, 0.0]
    for index in (first, 1 - first):
        start = time.perf_counter()
        sessions[index].run(None, inputs)
        spent[index] = time.perf_counter() - start
    return spent[0], spent[1]


def summarize(times_ms: np.ndarray) -> dict[str, Any]:
    """Return percentiles, mean and count of the times, and up to 200 quantiles of them in rising order.

    Args:
        times_ms: shape ``[runs]``.
    """
    p50, p90, p99 = np.percentile(times_ms, (50, 90, 99))
    points = min(CURVE_POINTS, len(times_ms))
    curve = np.quantile(times_ms, (np.arange(points) + 0.5) / points)
    return {
        "p50_ms": float(p50),
        "p90_ms": float(p90),
        "p99_ms": float(p99),
        "mean_ms": float(times_ms.mean()),
        "runs": len(times_ms),
        "quantiles_ms": [float(f"{value:.5g}") for value in curve],
    }


def bootstrap_speedup(rounds: Sequence[np.ndarray], rng: np.random.Generator) -> tuple[float, float]:
    """Return the 95 % confidence interval of ``median(original) / median(compressed)`` over all rounds.

    Two-level bootstrap. Rounds are drawn first, because fresh sessions of one file already differ by some tenths of a
    percent. In each, blocks of neighbouring pairs are drawn (circular block bootstrap, Politis and Romano 1992),
    because a slow spell of the machine lasts longer than one pair and hits both files.

    Args:
        rounds: times of each round, shape ``[pairs, 2]``, positive.
        rng: chooses rounds and blocks.
    """
    ratios = np.empty(RESAMPLES)
    for number in range(RESAMPLES):
        chosen = rng.integers(len(rounds), size=len(rounds))
        median = np.median(np.concatenate([_resample(rounds[index], rng) for index in chosen]), axis=0)
        ratios[number] = median[0] / median[1]
    low, high = np.percentile(ratios, (2.5, 97.5))
    return float(low), float(high)


def _resample(times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return as many pairs, drawn in blocks of about the root of their number."""
    count = len(times)
    length = max(1, round(count**0.5))
    starts = rng.integers(count, size=-(-count // length))
    index = (starts[:, None] + np.arange(length)).reshape(-1)[:count] % count
    chosen: np.ndarray = times[index]
    return chosen
