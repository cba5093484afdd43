"""Which channels of a group to remove."""

from collections.abc import Mapping

import numpy as np

from toolchain.channels.groups import ChannelGroup


def channel_norms(group: ChannelGroup, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the Euclidean norm of all weights that make each channel: float64 ``[channels]``."""
    squares = np.zeros(group.count)
    for part in group.slices:
        if part.role == "makes":
            weights = np.moveaxis(arrays[part.tensor], part.axis, 0)[part.positions.ravel()]
            squares += (weights.astype(np.float64) ** 2).reshape(group.count, -1).sum(axis=1)
    return np.sqrt(squares)


def weakest(scores: np.ndarray, fraction: float, round_to: int = 1) -> np.ndarray:
    """Return the channels of the lowest scores, as indices in ascending order; of equal scores the last go first.

    Args:
        scores: ``[channels]``.
        fraction: of the channels to remove, 0..1, as nearly as the other conditions allow.
        round_to: what the number of channels that stay is rounded up to a multiple of, for the runtime's kernels; all
            stay where there are no more than that. One stays in any case.
    """
    kept = max(1, len(scores) - round(fraction * len(scores)))
    kept = min(len(scores), -(-kept // round_to) * round_to)
    return np.sort(np.argsort(-scores, kind="stable")[kept:])
