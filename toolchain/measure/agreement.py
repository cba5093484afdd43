"""Which classes both models choose, sample by sample, and how far their class probabilities lie apart; pure numpy."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# Stands for a probability that underflowed, so that one lost class costs a large divergence and not an infinite one.
TINY = float(np.finfo(np.float32).tiny)
WORST = 20  # samples that the report lists


@dataclass
class ClassAgreement:
    """Counts over the class scores of one output.

    Attributes:
        samples: rows seen.
        agreed: rows where both choose the same class.
        divergence: sum over rows of KL(original || compressed), in nats.
        right: rows that the original and the compressed model classify correctly, where there are labels.
        lost: rows that only the original classifies correctly.
        won: rows that only the compressed model classifies correctly.
        classes: per class, its rows and those that the original and the compressed model put there; a class is that of
            the label, or without labels the one that the original chooses.
        worst: the samples that changed most, worst first.
    """

    samples: int = 0
    agreed: int = 0
    divergence: float = 0.0
    right: tuple[int, int] = (0, 0)
    lost: int = 0
    won: int = 0
    classes: dict[int, np.ndarray] = field(default_factory=dict)
    worst: list[dict[str, Any]] = field(default_factory=list)

    def add(self, original: np.ndarray, compressed: np.ndarray, labels: np.ndarray | None) -> None:
        """Add one batch of scores, shape ``[N, classes]`` each, labels ``[N]`` or None."""
        first, second = original.argmax(1), compressed.argmax(1)
        divergences = kl_divergence(original, compressed)
        self._rank(first, second, divergences, labels)
        self.samples += len(first)
        self.agreed += int((first == second).sum())
        self.divergence += float(divergences.sum())
        expected = first if labels is None else labels
        before, after = first == expected, second == expected
        for index in np.unique(expected):
            rows = expected == index
            counts = np.array([rows.sum(), before[rows].sum(), after[rows].sum()])
            self.classes[int(index)] = self.classes.get(int(index), 0) + counts
        if labels is not None:
            self.right = self.right[0] + int(before.sum()), self.right[1] + int(after.sum())
            self.lost += int((before & ~after).sum())
            self.won += int((after & ~before).sum())

    def _rank(self, first: np.ndarray, second: np.ndarray, divergences: np.ndarray, labels: np.ndarray | None) -> None:
        """Merge the rows that changed into the worst so far: another class first, then by divergence."""
        changed = first != second
        order = np.lexsort((np.nan_to_num(divergences, nan=np.inf), changed))[: -WORST - 1 : -1]
        rows = [
            {
                "index": self.samples + int(row),
                "label": None if labels is None else int(labels[row]),
                "original": int(first[row]),
                "compressed": int(second[row]),
                "divergence": float(divergences[row]),
            }
            for row in order
            if changed[row] or divergences[row] != 0  # not a number is not 0
        ]
        self.worst = sorted(self.worst + rows, key=_severity)[:WORST]

    def class_rows(self) -> list[dict[str, int]]:
        """Return the report's row of every class that occurred, in order."""
        keys = ("samples", "original", "compressed")
        return [
            {"class": index, **dict(zip(keys, map(int, counts), strict=True))}
            for index, counts in sorted(self.classes.items())
        ]

    @property
    def agreement(self) -> float:
        """Share of rows where both choose the same class."""
        return self.agreed / self.samples

    @property
    def accuracy(self) -> tuple[float, float]:
        """Share of rows that the original and the compressed model classify correctly."""
        return self.right[0] / self.samples, self.right[1] / self.samples

    def drop_ci95(self) -> tuple[float, float]:
        """Return the 95 % confidence interval of the drop in accuracy.

        The Wald interval for paired proportions: only rows on which the two models differ carry information.
        """
        difference, differing = self.lost - self.won, self.lost + self.won
        margin = 1.96 * math.sqrt(max(0.0, differing - difference**2 / self.samples))
        return (difference - margin) / self.samples, (difference + margin) / self.samples


def _severity(row: dict[str, Any]) -> tuple[bool, float]:
    divergence = row["divergence"]
    return row["original"] == row["compressed"], -math.inf if math.isnan(divergence) else -divergence


def kl_divergence(original: np.ndarray, compressed: np.ndarray) -> np.ndarray:
    """Return ``KL(p || q)`` of every row in nats, shape ``[N]``.

    Scores whose rows are distributions are taken as they are; anything else is taken as logits.

    Args:
        original: scores that give ``p``, shape ``[N, classes]``.
        compressed: scores that give ``q``, the same shape.
    """
    as_given = _are_distributions(original) and _are_distributions(compressed)
    log_p, log_q = (_log(scores) if as_given else _log_softmax(scores) for scores in (original, compressed))
    rows: np.ndarray = (np.exp(log_p) * (log_p - log_q)).sum(1)
    return rows.clip(min=0)  # rounding alone can make it negative


def _are_distributions(scores: np.ndarray) -> bool:
    return bool((scores >= 0).all() and np.abs(scores.sum(1) - 1).max(initial=0.0) < 1e-3)


def _log(probabilities: np.ndarray) -> np.ndarray:
    result: np.ndarray = np.log(np.maximum(probabilities.astype(np.float64), TINY))
    return result


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    result: np.ndarray = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return result.clip(min=math.log(TINY))
