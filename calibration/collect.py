"""Runs data through the model and chooses the 8-bit grid of activations."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from calibration.dataset import Dataset
from calibration.observers import COMPARED, OBSERVERS, Observer, PercentileObserver, compare_grids
from toolchain.errors import DataError, RecipeError, nearest
from toolchain.formats import Grid
from toolchain.module import OnnxModule

_Observer = TypeVar("_Observer", bound=Observer)


@dataclass(frozen=True)
class Sampling:
    """How much of the data is run.

    Attributes:
        batch_size: samples at a time; all observed values of a batch are in memory together.
        samples: at most this many are run, spread evenly over the data, which may be sorted by class.
        seconds: after which no further batch is run; one is in any case.
        tell: hears which part is done, 0..1.
    """

    batch_size: int = 16
    samples: int = 512
    seconds: float = math.inf
    tell: Callable[[float], object] = float

    def rows(self, dataset: Dataset) -> np.ndarray:
        """Return which samples are run, in an order in which any beginning is spread over the data too."""
        count = min(self.samples, len(dataset))
        rows = np.unique(np.linspace(0, len(dataset) - 1, count).round().astype(np.int64))
        return np.random.default_rng(0).permutation(rows)


def collect_grids(
    module: OnnxModule,
    names: Sequence[str],
    dataset: Dataset,
    observer: str = "minmax",
    sampling: Sampling | None = None,
) -> dict[str, Grid]:
    """Return the uint8 grid of each of the values ``names``, as the module computes them in evaluation mode.

    Args:
        module: run as it stands, formats included; its training mode is put back.
        names: float values of the graph, graph inputs among them.
        dataset: what is run.
        observer: a name in ``OBSERVERS``.
        sampling: how much of it.

    Raises:
        DataError: a value is NaN or infinite.
        RecipeError: there is no such observer.
    """
    if observer not in OBSERVERS:
        raise RecipeError(f"there is no observer {observer!r}", hint=nearest(observer, OBSERVERS))
    observers = {name: OBSERVERS[observer]() for name in names}
    _observe(module, observers, dataset, sampling or Sampling())
    return {name: found.grid() for name, found in observers.items()}


def collect_candidates(
    module: OnnxModule, names: Sequence[str], dataset: Dataset, sampling: Sampling
) -> dict[str, dict[str, Grid]]:
    """Return the grids of the values ``names`` by each observer of ``COMPARED``, from one run over the data.

    Raises:
        DataError: a value is NaN or infinite.
    """
    observers = {name: PercentileObserver() for name in names}
    _observe(module, observers, dataset, sampling)
    grids = {name: compare_grids(found.histogram) for name, found in observers.items()}
    return {observer: {name: found[observer] for name, found in grids.items()} for observer in COMPARED}


def _observe(module: OnnxModule, observers: Mapping[str, _Observer], dataset: Dataset, sampling: Sampling) -> None:
    """Show every observer the values of its name."""
    rows, until = sampling.rows(dataset), time.monotonic() + sampling.seconds
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            for start in range(0, len(rows), sampling.batch_size):
                if start and time.monotonic() > until:
                    break
                inputs = dataset.batch(rows[start : start + sampling.batch_size]).feeds
                for name, value in module.run(inputs, list(observers)).items():
                    if not bool(torch.isfinite(value).all()):
                        raise DataError(
                            f"value {name!r} of the model is NaN or infinite on the data from {dataset.source}",
                            hint="check --scale, --mean and --std against what the model was trained on",
                        )
                    observers[name].update(value.float().cpu().numpy())
                sampling.tell(min(1.0, (start + sampling.batch_size) / len(rows)))
    finally:
        module.train(was_training)
