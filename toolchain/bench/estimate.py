"""What interleaved timings say: percentiles, medians with their intervals, speedups, and whether noise hides them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

CURVE_POINTS = 200  # quantiles of each distribution that is kept for a chart
RESAMPLES = 1000
SEED = 0  # of the bootstrap
STATISTICS = ("p50", "p90", "p99", "mean")
PERCENTILES = (50, 90, 99)
CONFIDENCE = (2.5, 97.5)  # percent

UNDECIDED = 0.05  # an interval that contains 1 and is wider than this part of the speedup does not tell

# Times a second that other processes take the processor away: beyond, figures are those of a busy machine.
BUSY_PER_S = 20.0


def summarize(times_ms: np.ndarray) -> dict[str, Any]:
    """Return percentiles, mean and count of the times, and up to 200 quantiles of them in rising order.

    Args:
        times_ms: shape ``[runs]``.
    """
    p50, p90, p99 = np.percentile(times_ms, PERCENTILES)
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


def bootstrap(rounds: Sequence[np.ndarray]) -> np.ndarray:
    """Return p50, p90, p99 and mean of all rounds as they might have come out, shape ``[resamples, 4, models]``.

    Two-level bootstrap. Rounds are drawn first, because fresh sessions of one file already differ by some tenths of a
    percent. In each, blocks of neighbouring turns are drawn (circular block bootstrap, Politis and Romano 1992),
    because a slow spell of the machine lasts longer than one turn and hits all models.

    Args:
        rounds: times of each round, shape ``[turns, models]``.
    """
    rng = np.random.default_rng(SEED)
    times = np.concatenate(rounds)
    order = np.argsort(times, axis=0)  # once: a resample is how often each turn was drawn
    rising = np.take_along_axis(times, order, axis=0)
    starts = np.cumsum([0, *(len(item) for item in rounds)])
    drawn = np.empty((RESAMPLES, len(STATISTICS), times.shape[1]))
    for number in range(RESAMPLES):
        chosen = rng.integers(len(rounds), size=len(rounds))
        turns = [starts[index] + _draw_blocks(len(rounds[index]), rng) for index in chosen]
        counts = np.bincount(np.concatenate(turns), minlength=len(times))
        for model in range(times.shape[1]):
            drawn[number, :3, model] = _percentiles(rising[:, model], counts[order[:, model]])
        drawn[number, 3] = counts @ times / counts.sum()
    return drawn


def _draw_blocks(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return the positions of ``count`` turns, drawn in blocks of about the root of their number."""
    length = max(1, round(count**0.5))
    starts = rng.integers(count, size=-(-count // length))
    positions: np.ndarray = (starts[:, None] + np.arange(length)).reshape(-1)[:count] % count
    return positions


def _percentiles(rising: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return ``np.percentile(np.repeat(rising, counts), PERCENTILES)`` without making that array."""
    up_to = counts.cumsum()
    rank = np.array(PERCENTILES) / 100 * (up_to[-1] - 1)
    low, high = (rising[np.searchsorted(up_to, bound, side="right")] for bound in (np.floor(rank), np.ceil(rank)))
    between: np.ndarray = low + (high - low) * (rank % 1)
    return between


def interval(values: np.ndarray) -> list[float]:
    """Return the 95 % interval of bootstrapped values."""
    low, high = np.percentile(values, CONFIDENCE)
    return [float(low), float(high)]


def noise(speedup: float, ci95: Sequence[float], preempted_per_s: float | None) -> str:
    """Return why the machine was too noisy to tell whether a model is faster or slower; empty where it was not.

    Args:
        speedup: the estimate.
        ci95: its interval.
        preempted_per_s: how often other processes took the processor away; None where that is not known.
    """
    low, high = ci95
    width = (high - low) / speedup
    if not low <= 1 <= high or width <= UNDECIDED:
        return ""
    busy = f"; {disturbance(preempted_per_s)}" if preempted_per_s and preempted_per_s > BUSY_PER_S else ""
    return f"the interval {low:.2f} to {high:.2f} is {width:.0%} wide{busy}"


def disturbance(preempted_per_s: float) -> str:
    """Return in words how often others ran."""
    return f"other processes took the processor away {preempted_per_s:.0f} times a second"
