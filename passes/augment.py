"""Vectorised augmentation that keeps what an image shows."""

from collections.abc import Mapping

import numpy as np

from calibration.data import Batch

SMALLEST_SIDE = 16  # below this a pixel is too large a part of the image
CHANNELS = (1, 3, 4)  # grey, colour, colour with transparency


def can_shift(inputs: Mapping[str, np.ndarray]) -> bool:
    """Return whether a batch of model inputs is a batch of images ``[N, C, H, W]`` large enough to be shifted.

    It is where the only input is a float array of 1, 3 or 4 channels in the second dimension and of sides of at least
    16 pixels. So channels-last images, feature maps, and the masks ``[N, 1, T, T]`` that come beside token inputs stay
    as they are.
    """
    if len(inputs) != 1:
        return False
    (array,) = inputs.values()
    if array.ndim != 4 or array.dtype.kind != "f":
        return False
    return array.shape[1] in CHANNELS and min(array.shape[2:]) >= SMALLEST_SIDE


def shift_images(batch: Batch, rng: np.random.Generator) -> Batch:
    """Shift the images of a batch together by -1, 0 or 1 pixel each way, repeating the border.

    Args:
        batch: one that ``can_shift``; any other is returned as it is.
        rng: draws the direction.
    """
    if not can_shift(batch.inputs):
        return batch
    down, right = rng.integers(0, 3, 2)
    ((name, array),) = batch.inputs.items()
    height, width = array.shape[2:]
    padded = np.pad(array, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    moved = np.ascontiguousarray(padded[:, :, down : down + height, right : right + width])
    return Batch({name: moved}, batch.labels)
