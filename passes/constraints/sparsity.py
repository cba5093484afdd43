"""Cardinality constraints: at most so many weights differ from zero."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from passes.base import Constraint, Formats, Tensors
from toolchain.formats import TensorFormat


@dataclass(frozen=True)
class Budget:
    """A group of tensors that together keep exactly ``kept`` weights, at least one in each tensor."""

    names: tuple[str, ...]
    kept: int


@dataclass(frozen=True)
class TopK(Constraint):
    """The set of tensors with at most ``kept`` nonzeros per budget group.

    ``argmin sum c (z - v)^2`` over it keeps the largest ``c v^2``. With ``score="magnitude"`` the metric c is 1, which
    is the Euclidean projection; ``"curvature"`` takes c as the root of the diagonal curvature estimate, so that weights
    that move the loss are worth more (a scale-free comparison of layers); ``"lamp"`` divides each squared weight by the
    sum of the squares at least as large in its tensor (Lee et al., "Layer-adaptive sparsity for the magnitude-based
    pruning", ICLR 2021, eq. 3), so that no layer vanishes.
    """

    budgets: tuple[Budget, ...]
    score: str = "magnitude"

    def fit(self, weights: Tensors, fixed: Formats, curvature: Tensors) -> dict[str, TensorFormat]:
        """Return formats with masks that keep exactly the budgeted number of weights."""
        formats: dict[str, TensorFormat] = {}
        for budget in self.budgets:
            scores = [self._score(name, weights[name], fixed, curvature) for name in budget.names]
            masks = keep_largest(scores, budget.kept)
            for name, mask in zip(budget.names, masks, strict=True):
                earlier = fixed.get(name)
                formats[name] = TensorFormat(mask.to(weights[name].device), earlier.grid if earlier else None)
        return formats

    def _score(self, name: str, weight: Tensor, fixed: Formats, curvature: Tensors) -> np.ndarray:
        score = SCORES[self.score](weight.detach(), curvature.get(name))
        earlier = fixed.get(name)
        if earlier is not None and earlier.mask is not None:
            score = torch.where(earlier.mask, score, -torch.ones((), device=score.device))  # below every kept weight
        return score.cpu().numpy()


def _magnitude(weight: Tensor, _curvature: Tensor | None) -> Tensor:
    return weight.square()


def _curvature(weight: Tensor, curvature: Tensor | None) -> Tensor:
    if curvature is None:
        return _lamp(weight, None)  # before the first step nothing is known of the curvature
    return weight.square() * curvature.add(1e-16).sqrt()


def _lamp(weight: Tensor, _curvature: Tensor | None) -> Tensor:
    squares, order = weight.square().flatten().sort()
    remaining = squares.flip(0).cumsum(0).flip(0).clamp_min(1e-30)
    return torch.empty_like(squares).index_copy_(0, order, squares / remaining).view_as(weight)


SCORES = {"magnitude": _magnitude, "curvature": _curvature, "lamp": _lamp}


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


def progressive(budgets: tuple[Budget, ...], sizes: Mapping[str, int], start: float, done: float) -> tuple[Budget, ...]:
    """Return the budgets at progress ``done`` in 0..1: the ratio tightens geometrically from ``start`` to the target.

    Progressive targets are from arXiv 1903.09769, section 3; the geometric path is ours.
    """
    moved = []
    for budget in budgets:
        total = sum(sizes[name] for name in budget.names)
        ratio = total / budget.kept
        first = min(start, ratio)
        current = first * (ratio / first) ** min(1.0, done)
        moved.append(Budget(budget.names, max(budget.kept, round(total / current))))
    return tuple(moved)
