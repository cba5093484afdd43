"""Streaming observers: the 8-bit grid of an activation from batches of its values, in bounded memory.

A grid is asymmetric uint8 as QuantizeLinear has it: levels 0 to 255, and 0.0 exactly on the grid, since padding and
ReLU make zeros that must stay zeros.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import final

import numpy as np
import torch

from toolchain.formats import Grid

LEVELS = 256

# Bins on either side of zero. At least half of one side is always in use, so a range that is cut to a sixteenth
# still has two bins per level.
BINS = 16384

# Fraction of values clipped at either end by the percentile observer.
_CLIPPED = 1e-4

# Candidate cuts of a range: 16 per octave down to 1/16, as extreme values are few and far out.
_FRACTIONS = 2.0 ** (-np.arange(65) / 16)

_MIN_EXPONENT = -126  # of the smallest normal float32


def make_grid(low: float, high: float) -> Grid:
    """Return the uint8 grid that covers ``[min(low, 0), max(high, 0)]`` to within half a step.

    The scale is 1 where the range is empty, so that zeros stay zeros.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if high == low:
        return Grid(tuple(range(LEVELS)), torch.tensor(1.0))
    scale = torch.tensor(max((high - low) / (LEVELS - 1), 2.0**_MIN_EXPONENT), dtype=torch.float32)
    zero_point = min(max(round(-low / scale.item()), 0), LEVELS - 1)
    return Grid(tuple(range(LEVELS)), scale, zero_point)


class Observer(ABC):
    """Sees an activation batch by batch and chooses its grid; memory does not grow with what it sees."""

    @abstractmethod
    def update(self, array: np.ndarray) -> None:
        """Take in finite floats of any shape."""

    @abstractmethod
    def grid(self) -> Grid:
        """Return the grid for everything seen so far."""


@final
class MinMaxObserver(Observer):
    """Covers every value seen."""

    def __init__(self) -> None:
        self.low = self.high = 0.0

    def update(self, array: np.ndarray) -> None:
        """Widen the range to ``array``."""
        if array.size:
            self.low, self.high = min(self.low, float(array.min())), max(self.high, float(array.max()))

    def grid(self) -> Grid:
        """Return the grid over the whole range."""
        return make_grid(self.low, self.high)


@final
class Histogram:
    """Counts in bins ``[k * width, (k + 1) * width)`` for ``-BINS <= k < BINS``; ``width`` is a power of two.

    The width depends only on the largest magnitude seen and narrower bins merge exactly into wider ones, so the
    counts are the same however the values are cut into batches. Zeros are not counted: they are exact on every grid,
    and the spike that ReLU makes of them would outweigh what a range is chosen for.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(2 * BINS, np.int64)
        self.exponent = _MIN_EXPONENT
        self.low = self.high = 0.0

    def update(self, array: np.ndarray) -> None:
        """Count finite floats of any shape."""
        array = array[array != 0]
        if not array.size:
            return
        self.low, self.high = min(self.low, float(array.min())), max(self.high, float(array.max()))
        needed = math.frexp(max(self.high, -self.low) / BINS)[1]  # 2 ** needed is above every magnitude / BINS
        if needed > self.exponent:
            self._widen(needed)
        bins = np.floor(array * 2.0**-self.exponent).astype(np.int64)
        self.counts += np.bincount(bins + BINS, minlength=2 * BINS)

    def _widen(self, exponent: int) -> None:
        used = np.flatnonzero(self.counts)
        shift = min(exponent - self.exponent, 62)  # an arithmetic shift is floor division, as bins need
        counts = np.zeros_like(self.counts)
        np.add.at(counts, ((used - BINS) >> shift) + BINS, self.counts[used])
        self.counts, self.exponent = counts, exponent

    def filled(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the centres and the counts of the bins that are not empty, both float64 ``[bins]``."""
        used = np.flatnonzero(self.counts)
        return (used - BINS + 0.5) * 2.0**self.exponent, self.counts[used].astype(np.float64)


class HistogramObserver(Observer):
    """Counts now and chooses the range at the end; several of them can choose by the same counts."""

    def __init__(self, histogram: Histogram | None = None) -> None:
        self.histogram = Histogram() if histogram is None else histogram

    @final
    def update(self, array: np.ndarray) -> None:
        """Count the values of ``array``."""
        self.histogram.update(array)


@final
class PercentileObserver(HistogramObserver):
    """Clips the outermost hundredth of a percent of the nonzero values at either end."""

    def grid(self) -> Grid:
        """Return the grid between the two percentiles."""
        centres, counts = self.histogram.filled()
        if not centres.size:
            return make_grid(0.0, 0.0)
        half = 2.0**self.histogram.exponent / 2
        below = np.cumsum(counts) / counts.sum()
        low = centres[np.searchsorted(below, _CLIPPED, side="right")] - half
        high = centres[np.searchsorted(below, 1 - _CLIPPED)] + half
        return make_grid(max(low, self.histogram.low), min(high, self.histogram.high))


@final
class MseObserver(HistogramObserver):
    """Minimises the mean squared error of rounding and clipping."""

    def grid(self) -> Grid:
        """Return the best of the candidate ranges."""
        return _search(self.histogram, _squared_error)


@final
class EntropyObserver(HistogramObserver):
    """Minimises the Kullback-Leibler divergence from the quantized to the original distribution.

    Source: Migacz, 8-bit Inference with TensorRT, GTC 2017; here over both ends of the range.
    """

    def grid(self) -> Grid:
        """Return the best of the candidate ranges."""
        return _search(self.histogram, _divergence)


OBSERVERS: dict[str, type[Observer]] = {
    "minmax": MinMaxObserver,
    "percentile": PercentileObserver,
    "entropy": EntropyObserver,
    "mse": MseObserver,
}


# What ``compare_grids`` chooses by: the range of everything, and two that clip, a little and as far as it pays.
COMPARED: tuple[str, ...] = ("minmax", "percentile", "mse")


def compare_grids(histogram: Histogram) -> dict[str, Grid]:
    """Return the grid that each observer of ``COMPARED`` chooses for the same counts."""
    found = {"minmax": make_grid(histogram.low, histogram.high)}
    for name in COMPARED:
        if issubclass(kind := OBSERVERS[name], HistogramObserver):
            found[name] = kind(histogram).grid()
    return found


def _search(histogram: Histogram, cost: Callable[[np.ndarray, np.ndarray, float, float], float]) -> Grid:
    """Return the grid of least ``cost(centres, counts, low, high)``: both ends cut alike first, then each alone."""
    centres, counts = histogram.filled()
    if not centres.size:
        return make_grid(0.0, 0.0)
    low, high = histogram.low, histogram.high
    best = min(_FRACTIONS, key=lambda cut: cost(centres, counts, low * cut, high * cut))
    low, high = low * best, high * best
    if low < 0 < high:
        high *= min(_FRACTIONS, key=lambda cut: cost(centres, counts, low, high * cut))
        low *= min(_FRACTIONS, key=lambda cut: cost(centres, counts, low * cut, high))
    return make_grid(low, high)


def _levels(centres: np.ndarray, low: float, high: float) -> tuple[np.ndarray, float, int]:
    """Return the level of every centre, and the scale and zero point of the grid."""
    grid = make_grid(low, high)
    scale = grid.scale.item()
    zero_point = int(grid.zero_point)
    return np.clip(np.round(centres / scale) + zero_point, 0, LEVELS - 1), scale, zero_point


def _squared_error(centres: np.ndarray, counts: np.ndarray, low: float, high: float) -> float:
    levels, scale, zero_point = _levels(centres, low, high)
    return float(counts @ (centres - scale * (levels - zero_point)) ** 2)


def _divergence(centres: np.ndarray, counts: np.ndarray, low: float, high: float) -> float:
    inside = (centres >= low) & (centres <= high)
    if not inside.any():
        return math.inf
    kept = counts[inside]
    original = kept.copy()  # what is clipped piles up at the ends of the original distribution only
    original[0] += counts[centres < low].sum()
    original[-1] += counts[centres > high].sum()
    levels = _levels(centres[inside], low, high)[0].astype(np.int64)
    mass, bins = np.bincount(levels, kept, LEVELS), np.bincount(levels, minlength=LEVELS)
    quantized = mass[levels] / bins[levels]
    p, q = original / original.sum(), quantized / quantized.sum()
    return float(p @ np.log(p / q))
