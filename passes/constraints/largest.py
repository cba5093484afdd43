"""Unstructured sparsity: the largest single weights."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from passes.constraints.scores import Target, relative
from toolchain.structures import Structure

CHUNK = 2**22  # scores at a time, so that a selection needs little memory beside the scores
HALF = 16  # bits of a score that are counted at a time
DEAD = -1.0  # below every score


def keep_weights(targets: Sequence[Target], kept: int, structure: Structure) -> list[Tensor]:  # noqa: ARG001 - as the other sets
    """Return masks that solve ``argmin sum c (z - v)^2`` with ``kept`` nonzeros in all: the largest ``c v^2`` stay."""
    masks = keep_largest([_score(target) for target in targets], kept)
    return [mask.logical_and_(target.alive) for mask, target in zip(masks, targets, strict=True)]


def add_largest(masks: Sequence[Tensor], targets: Sequence[Target], kept: int) -> list[Tensor]:
    """Return ``masks`` with the largest of the other weights added, until ``kept`` are kept in all.

    So a set of a fixed ratio tightens: it begins with many weights outside of it and ends with none.
    """
    if kept <= sum(int(mask.sum()) for mask in masks):
        return list(masks)
    scores = [_score(target).masked_fill(mask, torch.inf) for mask, target in zip(masks, targets, strict=True)]
    added = keep_largest(scores, min(kept, sum(score.numel() for score in scores)))
    return [mask.logical_and_(target.alive) for mask, target in zip(added, targets, strict=True)]


def _score(target: Target) -> Tensor:
    """Return what keeping each weight saves per cost; less than nothing where it is dead."""
    score = relative(target.energy) if target.relative else target.energy
    if target.cost != 1.0:
        score = score / target.cost
    return score if bool(target.alive.all()) else torch.where(target.alive, score, DEAD)


def keep_largest(scores: Sequence[Tensor], kept: int) -> list[Tensor]:
    """Return boolean masks of the ``kept`` largest scores over all tensors, exactly, at least one per tensor.

    Ties at the cut are broken by position, so that tied scores never prune more or fewer than asked. As bits, float32
    scores are in the order of their integers, so two counts of 16 bits each find the cut, whatever the distribution.

    Args:
        scores: float32, at least 0 or ``DEAD``.
        kept: how many stay.

    Raises:
        ValueError: ``kept`` is smaller than the number of tensors or larger than the number of scores.
    """
    total = sum(score.numel() for score in scores)
    if not len(scores) <= kept <= total:
        raise ValueError(f"cannot keep {kept} of {total} weights in {len(scores)} tensors")
    firsts = [_first_largest(score) for score in scores]  # no tensor vanishes: a layer of zeros ends the network
    high, left = _cut(((chunk >> HALF) for _, chunk in _chunks(scores, firsts)), kept)
    inside = (chunk[(chunk >> HALF) == high] - (high << HALF) for _, chunk in _chunks(scores, firsts))
    low, ties = _cut((chunk - 2 ** (HALF - 1) for chunk in inside), left)
    threshold = (high << HALF) + low + 2 ** (HALF - 1)
    masks = [torch.empty(score.numel(), dtype=torch.bool, device=score.device) for score in scores]
    begins = [0] * len(scores)
    for index, chunk in _chunks(scores, firsts):
        part = chunk > threshold
        tied = (chunk == threshold).nonzero()[:, 0][:ties]
        part[tied] = True
        ties -= len(tied)
        masks[index][begins[index] : begins[index] + len(part)] = part
        begins[index] += len(part)
    return [mask.view(score.shape) for mask, score in zip(masks, scores, strict=True)]


def _chunks(scores: Sequence[Tensor], firsts: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    """Yield the number of the tensor and the next of its scores, as integers in the same order.

    Those at ``firsts`` are above all others.
    """
    for index, (score, first) in enumerate(zip(scores, firsts, strict=True)):
        for part, values in enumerate(torch.split(score.reshape(-1), CHUNK)):
            bits = values.view(torch.int32)
            if part == first // CHUNK:
                bits = bits.clone()
                bits[first % CHUNK] = 2**31 - 1
            yield index, bits


def _first_largest(score: Tensor) -> int:
    """Return the first position of the largest score."""
    flat = score.reshape(-1)
    largest = flat.max()
    for part, values in enumerate(torch.split(flat, CHUNK)):
        found = (values == largest).nonzero()
        if len(found):
            return part * CHUNK + int(found[0])
    return 0  # only NaN


def _cut(chunks: Iterator[Tensor], kept: int) -> tuple[int, int]:
    """Return the value of 16 bits, signed, that the ``kept``-th largest has, and how many of that value are kept."""
    counts = None
    for chunk in chunks:
        found = torch.bincount(chunk + 2 ** (HALF - 1), minlength=2**HALF)
        counts = found if counts is None else counts + found.to(counts.device)
    if counts is None:
        raise ValueError("there are no scores to choose from")
    above = counts.flip(0).cumsum(0)
    place = int(torch.searchsorted(above, kept))  # the first value from above with which there are enough
    before = int(above[place - 1]) if place else 0
    return 2 ** (HALF - 1) - 1 - place, kept - before
