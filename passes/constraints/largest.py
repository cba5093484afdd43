"""Unstructured sparsity: the largest single weights."""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from passes.constraints.scores import Target, relative
from toolchain.structures import Structure


def keep_weights(targets: Sequence[Target], kept: int, structure: Structure) -> list[Tensor]:  # noqa: ARG001 - as the other sets
    """Return masks that solve ``argmin sum c (z - v)^2`` with ``kept`` nonzeros in all: the largest ``c v^2`` stay."""
    scores = [relative(target.energy) if target.relative else target.energy for target in targets]
    ranked = [_ranked(score, target) for score, target in zip(scores, targets, strict=True)]
    masks = keep_largest(ranked, kept)
    return [mask.to(target.alive.device) & target.alive for mask, target in zip(masks, targets, strict=True)]


def add_largest(masks: Sequence[Tensor], targets: Sequence[Target], kept: int) -> list[Tensor]:
    """Return ``masks`` with the largest of the other weights added, until ``kept`` are kept in all.

    So a set of a fixed ratio tightens: it begins with many weights outside of it and ends with none.
    """
    if kept <= sum(int(mask.sum()) for mask in masks):
        return list(masks)
    scores = [relative(target.energy) if target.relative else target.energy for target in targets]
    ranked = [
        _ranked(score.masked_fill(mask, torch.inf), t) for score, mask, t in zip(scores, masks, targets, strict=True)
    ]
    added = keep_largest(ranked, min(kept, sum(score.size for score in ranked)))
    return [mask.to(target.alive.device) & target.alive for mask, target in zip(added, targets, strict=True)]


def _ranked(score: Tensor, target: Target) -> np.ndarray:
    below = -torch.ones((), dtype=score.dtype, device=score.device)
    ranked: np.ndarray = torch.where(target.alive, score, below).cpu().numpy()
    return ranked


def keep_largest(scores: Sequence[np.ndarray], kept: int) -> list[Tensor]:
    """Return boolean masks of the ``kept`` largest scores over all arrays, exactly, at least one per array.

    Ties at the cut are broken by position, so that tied scores never prune more or fewer than asked.

    Raises:
        ValueError: ``kept`` is smaller than the number of arrays or larger than the number of scores.
    """
    flat = np.concatenate([score.reshape(-1) for score in scores])
    if not len(scores) <= kept <= flat.size:
        raise ValueError(f"cannot keep {kept} of {flat.size} weights in {len(scores)} tensors")
    starts = np.cumsum([0] + [score.size for score in scores])
    for start, stop in itertools.pairwise(starts):
        flat[start + int(flat[start:stop].argmax())] = np.inf  # no tensor vanishes: a layer of zeros ends the network
    threshold = np.partition(flat, flat.size - kept)[flat.size - kept]
    mask = flat > threshold
    tied = np.flatnonzero(flat == threshold)
    mask[tied[: kept - int(mask.sum())]] = True
    parts = np.split(mask, starts[1:-1])
    return [torch.from_numpy(part.reshape(score.shape)) for part, score in zip(parts, scores, strict=True)]
