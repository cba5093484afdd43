"""The order in which training sees its samples."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from calibration.data import Batch, Dataset
from passes.augment import vary
from toolchain.augmentation import Augmentation
from toolchain.checkpoint import State


@dataclass
class Batches(Iterator[Batch]):
    """Training batches for ever, every sample at most once per epoch.

    Attributes:
        data: what is drawn from.
        size: samples per batch, at most as many as there are.
        augmentation: how images are varied, each by itself.
        rng: draws the order of every epoch, and the variants.
        order: the samples of this epoch, ``[len(data)]``.
        position: the first of ``order`` that is not drawn yet.
    """

    data: Dataset
    size: int
    augmentation: Augmentation
    rng: np.random.Generator
    order: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    position: int = 0

    def __next__(self) -> Batch:
        """Return the next batch; a rest that fills none is left out."""
        if self.position + self.size > len(self.order):
            self.order, self.position = self.rng.permutation(len(self.data)), 0
        start, self.position = self.position, self.position + self.size
        samples, count = self.order[start : self.position], self.augmentation.variants
        variants = self.rng.integers(0, count, self.size) if count > 1 else np.zeros(self.size, np.int64)
        return variant_batch(self.data, samples, variants, self.augmentation)

    def state(self) -> State:
        """Return where in the epoch this is; the generator is shared, so it is not part of it."""
        return {"order": torch.from_numpy(self.order), "position": self.position}

    def restore(self, state: State) -> None:
        """Go on from a state."""
        self.order, self.position = state["order"].numpy(), state["position"]


def variant_batch(data: Dataset, samples: np.ndarray, variants: np.ndarray, augmentation: Augmentation) -> Batch:
    """Return the samples ``[size]``, each in the variant of that number ``[size]``."""
    batch = replace(data.batch(samples), rows=variants * len(data) + samples)
    if augmentation.variants == 1:
        return batch
    return replace(batch, inputs={name: vary(array, variants, augmentation) for name, array in batch.inputs.items()})
