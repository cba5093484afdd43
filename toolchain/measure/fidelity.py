"""How far outputs moved: streaming sums over batches, pure numpy."""

import math
from dataclasses import dataclass

import numpy as np

# Stands for a probability that underflowed, so that one lost class costs a large divergence and not an infinite one.
TINY = float(np.finfo(np.float32).tiny)


@dataclass
class Closeness:
    """Sums over one output, from which its distance to the original follows.

    Elements that are not finite on both sides are left out of the sums and counted where the two sides differ.
    """

    squared_error: float = 0.0
    squared_original: float = 0.0
    squared_compressed: float = 0.0
    product: float = 0.0
    max_abs_error: float = 0.0
    nonfinite_changed: int = 0
    shape_changed: int = 0

    def add(self, original: np.ndarray, compressed: np.ndarray) -> None:
        """Add one batch; where the shapes differ, as after a non-maximum suppression, it is only counted."""
        if original.shape != compressed.shape:
            self.shape_changed += 1
            return
        first, second = original.astype(np.float64).ravel(), compressed.astype(np.float64).ravel()
        finite = np.isfinite(first) & np.isfinite(second)
        if not finite.all():
            odd = ~finite
            self.nonfinite_changed += int(np.count_nonzero(~np.isclose(first[odd], second[odd], equal_nan=True)))
            first, second = first[finite], second[finite]
        error = second - first
        self.squared_error += float(error @ error)
        self.squared_original += float(first @ first)
        self.squared_compressed += float(second @ second)
        self.product += float(first @ second)
        self.max_abs_error = max(self.max_abs_error, float(np.abs(error).max(initial=0.0)))

    def result(self) -> dict[str, float | int | None]:
        """Return relative L2 error, cosine over all elements as one vector, and max abs error.

        A ratio whose denominator is zero is None.
        """
        norms = math.sqrt(self.squared_original) * math.sqrt(self.squared_compressed)
        found: dict[str, float | int | None] = {
            "relative_l2": math.sqrt(self.squared_error / self.squared_original) if self.squared_original else None,
            "cosine": min(1.0, self.product / norms) if norms else None,
            "max_abs_error": self.max_abs_error,
        }
        counts = {"nonfinite_changed": self.nonfinite_changed, "shape_changed": self.shape_changed}
        return found | {name: count for name, count in counts.items() if count}


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
    """

    samples: int = 0
    agreed: int = 0
    divergence: float = 0.0
    right: tuple[int, int] = (0, 0)
    lost: int = 0
    won: int = 0

    def add(self, original: np.ndarray, compressed: np.ndarray, labels: np.ndarray | None) -> None:
        """Add one batch of scores, shape ``[N, classes]`` each, labels ``[N]`` or None."""
        first, second = original.argmax(1), compressed.argmax(1)
        self.samples += len(first)
        self.agreed += int((first == second).sum())
        self.divergence += kl_divergence(original, compressed)
        if labels is not None:
            before, after = first == labels, second == labels
            self.right = self.right[0] + int(before.sum()), self.right[1] + int(after.sum())
            self.lost += int((before & ~after).sum())
            self.won += int((after & ~before).sum())

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


def kl_divergence(original: np.ndarray, compressed: np.ndarray) -> float:
    """Return the sum over rows of ``KL(p || q)`` in nats.

    Scores whose rows are distributions are taken as they are; anything else is taken as logits.

    Args:
        original: scores that give ``p``, shape ``[N, classes]``.
        compressed: scores that give ``q``, the same shape.
    """
    as_given = _are_distributions(original) and _are_distributions(compressed)
    log_p, log_q = (_log(scores) if as_given else _log_softmax(scores) for scores in (original, compressed))
    return float((np.exp(log_p) * (log_p - log_q)).sum())


def _are_distributions(scores: np.ndarray) -> bool:
    return bool((scores >= 0).all() and np.abs(scores.sum(1) - 1).max(initial=0.0) < 1e-3)


def _log(probabilities: np.ndarray) -> np.ndarray:
    result: np.ndarray = np.log(np.maximum(probabilities.astype(np.float64), TINY))
    return result


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    result: np.ndarray = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return result.clip(min=math.log(TINY))
