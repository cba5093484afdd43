"""What interleaved timings say: percentiles, medians with their intervals, speedups, and whether noise hides them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

CURVE_POINTS = 200  # quantiles of each distribution that is kept for a chart
RESAMPLES = 1000
SEED = 0  # of the bootstrap
CONFIDENCE = (2.5, 97.5)  # percent

# An interval as wide as these parts of the speedup does not tell: the first where it contains 1, the second anyway.
UNDECIDED, VAGUE = 0.05, 0.2


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


def bootstrap_medians(rounds: Sequence[np.ndarray]) -> np.ndarray:
    """Return medians over all rounds as they might have come out, shape ``[resamples, models]``.

    Two-level bootstrap. Rounds are drawn first, because fresh sessions of one file already differ by some tenths of a
    percent. In each, blocks of neighbouring turns are drawn (circular block bootstrap, Politis and Romano 1992),
    because a slow spell of the machine lasts longer than one turn and hits all models.

    Args:
        rounds: times of each round, shape ``[turns, models]``.
    """
    rng = np.random.default_rng(SEED)
    medians = np.empty((RESAMPLES, rounds[0].shape[1]))
    for number in range(RESAMPLES):
        chosen = rng.integers(len(rounds), size=len(rounds))
        medians[number] = np.median(np.concatenate([_resample(rounds[index], rng) for index in chosen]), axis=0)
    return medians


def _resample(times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return as many turns, drawn in blocks of about the root of their number."""
    count = len(times)
    length = max(1, round(count**0.5))
    starts = rng.integers(count, size=-(-count // length))
    index = (starts[:, None] + np.arange(length)).reshape(-1)[:count] % count
    chosen: np.ndarray = times[index]
    return chosen


def interval(values: np.ndarray) -> list[float]:
    """Return the 95 % interval of bootstrapped values."""
    low, high = np.percentile(values, CONFIDENCE)
    return [float(low), float(high)]


def noise(speedup: float, ci95: Sequence[float], preempted: int | None, seconds: float) -> str:
    """Return why the machine was too noisy to tell how much faster a model is; empty where it was not.

    Args:
        speedup: the estimate.
        ci95: its interval.
        preempted: how often other processes took the processor away; None where that is not known.
        seconds: in how long.
    """
    low, high = ci95
    width = (high - low) / speedup
    if width <= (UNDECIDED if low <= 1 <= high else VAGUE):
        return ""
    busy = ""
    if preempted is not None and preempted > seconds:  # about one a second comes from the system's own housekeeping
        busy = f"; other processes took the processor away {preempted / seconds:.0f} times a second"
    return f"the interval {low:.2f} to {high:.2f} is {width:.0%} wide{busy}"
