"""The original's answers to the training data, computed once where they do not change."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from calibration.data import Batch, Dataset
from passes.batches import variant_batch
from toolchain.augmentation import Augmentation

# Samples at a time, always the same ones in the same order: in the last bit an answer depends on its neighbours.
CHUNK = 128
TABLE_BYTES = 256 * 2**20
TRIED = 4  # chunks after which it is known how long all of them take
SAME = 0.02  # of the largest value, by which an answer may differ among other neighbours, in any precision

Answer = Callable[[Batch], dict[str, Tensor]]


@dataclass(frozen=True)
class Targets:
    """The original's answers to every variant of every training sample.

    Attributes:
        tables: ``[variants * samples, ...]`` by output name, all variants 0 first.
    """

    tables: dict[str, Tensor]

    def of(self, batch: Batch) -> dict[str, Tensor] | None:
        """Return the answers to a training batch; None where nobody knows which samples it holds."""
        if batch.rows is None:
            return None
        rows = torch.from_numpy(batch.rows)
        return {name: table[rows.to(table.device)] for name, table in self.tables.items()}


@torch.no_grad()
def tabulate(
    answer: Answer, data: Dataset, augmentation: Augmentation, seconds: float | None, tell: Callable[[float], None]
) -> Targets | None:
    """Compute the answers to all variants of all samples.

    Args:
        answer: returns the outputs that are wanted for a batch.
        data: the training samples.
        augmentation: how they are varied.
        seconds: that it may take; None for no limit.
        tell: hears how far it is, 0..1.

    Returns:
        None where that takes longer or more than 256 MiB, or an answer depends on the other samples of its batch.
    """
    chunks = [
        (variant, np.arange(start, min(start + CHUNK, len(data))))
        for variant in range(augmentation.variants)
        for start in range(0, len(data), CHUNK)
    ]
    first = answer(_chunk(data, augmentation, *chunks[0]))
    few = chunks[0][1][: (len(chunks[0][1]) + 1) // 2]
    if not _independent(first, answer(_chunk(data, augmentation, 0, few)), len(chunks[0][1])):
        return None
    rows = augmentation.variants * len(data)
    if sum(rows * value[0].numel() * value.element_size() for value in first.values()) > TABLE_BYTES:
        return None
    tables = {name: value.new_empty((rows, *value.shape[1:])) for name, value in first.items()}
    started = time.monotonic()
    for number, (variant, samples) in enumerate(chunks):
        elapsed = time.monotonic() - started
        if seconds is not None and number >= TRIED and elapsed * len(chunks) > seconds * number:
            return None
        tell(number / len(chunks))
        start = variant * len(data) + int(samples[0])
        for name, value in answer(_chunk(data, augmentation, variant, samples)).items():
            if value.shape[1:] != tables[name].shape[1:]:
                return None
            tables[name][start : start + len(samples)] = value
    return Targets(tables)


def _chunk(data: Dataset, augmentation: Augmentation, variant: int, samples: np.ndarray) -> Batch:
    return variant_batch(data, samples, np.full(len(samples), variant), augmentation)


def _independent(answers: Mapping[str, Tensor], fewer: Mapping[str, Tensor], count: int) -> bool:
    """Return whether the answers to ``count`` samples begin with those to some of them alone."""
    for name, alone in fewer.items():
        whole = answers[name]
        if whole.dim() == 0 or len(whole) != count or whole.shape[1:] != alone.shape[1:]:
            return False
        difference = (whole[: len(alone)] - alone).abs().max()
        if not bool(difference <= SAME * whole.abs().max()):
            return False
    return True
