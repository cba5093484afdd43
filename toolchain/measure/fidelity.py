"""How far outputs moved: streaming sums over batches, pure numpy."""

import math
from dataclasses import dataclass

import numpy as np


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
