"""Runs data through the model and chooses the 8-bit grid of activations."""

from collections.abc import Sequence

import numpy as np
import torch

from calibration.dataset import Dataset
from calibration.observers import OBSERVERS
from toolchain.errors import DataError, RecipeError, nearest
from toolchain.formats import Grid
from toolchain.module import OnnxModule


def collect_grids(
    module: OnnxModule,
    names: Sequence[str],
    dataset: Dataset,
    observer: str = "minmax",
    batch_size: int = 16,
    samples: int = 512,
) -> dict[str, Grid]:
    """Return the uint8 grid of each of the values ``names``, as the module computes them in evaluation mode.

    Args:
        module: run as it stands, formats included; its training mode is put back.
        names: float values of the graph, graph inputs among them.
        dataset: what is run.
        observer: a name in ``OBSERVERS``.
        batch_size: samples at a time; all observed values of a batch are in memory together.
        samples: at most this many are run, spread evenly over the data, which may be sorted by class.

    Raises:
        DataError: a value is NaN or infinite.
        RecipeError: there is no such observer.
    """
    if observer not in OBSERVERS:
        raise RecipeError(f"there is no observer {observer!r}", hint=nearest(observer, OBSERVERS))
    observers = {name: OBSERVERS[observer]() for name in names}
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(samples, len(dataset))).round().astype(np.int64))
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            for start in range(0, len(rows), batch_size):
                inputs = dataset.batch(rows[start : start + batch_size]).feeds
                for name, value in module.run(inputs, list(observers)).items():
                    if not bool(torch.isfinite(value).all()):
                        raise DataError(
                            f"value {name!r} of the model is NaN or infinite on the data from {dataset.source}",
                            hint="check --scale, --mean and --std against what the model was trained on",
                        )
                    observers[name].update(value.float().cpu().numpy())
    finally:
        module.train(was_training)
    return {name: observers[name].grid() for name in names}
