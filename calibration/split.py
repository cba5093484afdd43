"""Divides samples into what trains, what selects and what judges."""

from dataclasses import dataclass

import numpy as np

from calibration.dataset import Dataset, LoadedData
from toolchain.errors import DataError

_HELD_OUT = 0.1
_MAX_SELECTION = 5000


@dataclass(frozen=True, eq=False)
class Split:
    """Three disjoint data sets.

    Attributes:
        train: what weights are trained on.
        selection: what the best iterate is picked by; never trained on.
        evaluation: what the report measures; neither trained on nor picked by.
        note: a sentence for the report that says which samples the quality is measured on.
    """

    train: Dataset
    selection: Dataset
    evaluation: Dataset
    note: str


def split(data: LoadedData, evaluation: Dataset | None, seed: int) -> Split:
    """Divide ``data``: the evaluation part is ``evaluation``, else the source's test part, else 10 % held out.

    The selection part is 10 % of what is left for training, at most 5,000. Held-out parts are drawn so that every
    class keeps its share, where there are labels. The same seed gives the same split.

    Raises:
        DataError: there are too few samples to divide.
    """
    rng = np.random.default_rng(seed)
    train, given = data.train, data.test if evaluation is None else evaluation
    needed = 3 if given is None else 2
    if len(train) < needed:
        raise DataError(
            f"{train.source} has {len(train)} sample{'s' * (len(train) != 1)}, at least {needed} are needed",
            hint="give more data, or none at all: then inputs are synthesised",
        )
    whole, held_out = len(train), given is None
    if given is None:
        train, given = _hold_out(train, max(1, round(_HELD_OUT * whole)), rng)
    train, selection = _hold_out(train, max(1, min(_MAX_SELECTION, round(_HELD_OUT * len(train)))), rng)
    return Split(train, selection, given, _note(given, whole, held_out))


def _note(given: Dataset, whole: int, held_out: bool) -> str:
    origin = f"held out at random of the {whole:,} in {given.source}" if held_out else f"from {given.source}"
    if given.kind == "synthetic":
        return (
            f"Agreement with the original model is measured on {len(given):,} synthetic inputs; accuracy on real data "
            "was not measured."
        )
    if given.labels is None:
        return (
            f"Agreement with the original model is measured on {len(given):,} unlabelled samples {origin}; accuracy "
            "was not measured."
        )
    return f"Accuracy is measured on {len(given):,} samples {origin}, which were not trained on."


def _hold_out(data: Dataset, count: int, rng: np.random.Generator) -> tuple[Dataset, Dataset]:
    """Return the kept samples and ``count`` held-out ones, each in their original order."""
    order = rng.permutation(len(data))
    if data.labels is not None:  # evenly spaced in an order sorted by class: every class gives its share
        order = order[np.argsort(data.labels[order], kind="stable")]
    picked = np.zeros(len(data), bool)
    picked[order[((np.arange(count) + rng.random()) * len(data) / count).astype(np.int64)]] = True
    return data.subset(np.flatnonzero(~picked)), data.subset(np.flatnonzero(picked))
