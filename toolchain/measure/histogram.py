"""Histograms of a tensor's values before and after, over the same bins."""

from typing import Any

import numpy as np

BINS = 48


def histogram(original: np.ndarray, compressed: np.ndarray) -> dict[str, Any] | None:
    """Return the report's ``histogram`` of a tensor, or None where no value is finite and not zero.

    Exact zeros are left out: after pruning they would be nearly all there is. They are the tensor's size less the
    counts.

    Args:
        original: values before, of any shape.
        compressed: values after, of any shape.

    Returns:
        ``edges`` of 48 bins from the least to the largest value of both, rising, and the counts of each side.
    """
    sides = [values[np.isfinite(values) & (values != 0)] for values in (original, compressed)]
    found = [float(bound) for values in sides if values.size for bound in (values.min(), values.max())]
    if not found:
        return None
    bounds = min(found), max(found)
    edges = np.histogram_bin_edges(np.empty(0), BINS, bounds)
    counts = [np.histogram(values, BINS, bounds)[0].tolist() for values in sides]
    return {"edges": [float(f"{edge:.7g}") for edge in edges], "original": counts[0], "compressed": counts[1]}
