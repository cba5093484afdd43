"""Class labels: one integer per sample."""

import numpy as np

from toolchain.errors import DataError


def to_labels(array: np.ndarray, source: str) -> np.ndarray:
    """Return ``array`` as int64 ``[N]``; a trailing dimension of one is dropped.

    Raises:
        DataError: not integers, not one per sample, or negative.
    """
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(
            f"{source}: labels have shape {list(array.shape)}, expected one class index per sample, [N]",
            hint="one-hot labels become indices by labels.argmax(axis=1)",
        )
    if array.dtype.kind not in "iub":
        raise DataError(
            f"{source}: labels are {array.dtype}, expected integers",
            hint="save the class index of each sample as int64",
        )
    labels = array.astype(np.int64)
    negative = np.flatnonzero(labels < 0)
    if negative.size:
        raise DataError(
            f"{source}: label {labels[negative[0]]} at index {negative[0]} is negative ({negative.size:,} such)",
            hint="class indices start at 0; leave samples without a label out",
        )
    return labels


def check_labels(labels: np.ndarray, classes: int) -> None:
    """Check that every label names one of ``classes`` outputs.

    Args:
        labels: integers, ``[N]``.
        classes: number of classes that the model tells apart.

    Raises:
        DataError: the first label outside ``0 .. classes - 1``, with its index.
    """
    outside = np.flatnonzero((labels < 0) | (labels >= classes))
    if outside.size:
        raise DataError(
            f"label {labels[outside[0]]} at index {outside[0]} is out of range: the model has {classes} classes, "
            f"so 0 to {classes - 1} ({outside.size:,} of {len(labels):,} labels are outside)",
            hint="class indices start at 0; check that the data belong to this model",
        )
