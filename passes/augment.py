"""Vectorised augmentation that keeps what an image shows."""

import numpy as np

from calibration.data import Batch

SMALLEST_SIDE = 16  # below this a pixel is too large a part of the image


def can_shift(shape: tuple[int, ...]) -> bool:
    """Return whether an array of this shape, batch included, is a batch of images large enough to be shifted."""
    return len(shape) == 4 and min(shape[2:]) >= SMALLEST_SIDE


def shift_images(batch: Batch, rng: np.random.Generator) -> Batch:
    """Shift the images ``[N, C, H, W]`` of a batch together by -1, 0 or 1 pixel each way, repeating the border."""
    down, right = rng.integers(0, 3, 2)
    inputs = {}
    for name, array in batch.inputs.items():
        if can_shift(array.shape):
            height, width = array.shape[2:]
            padded = np.pad(array, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
            inputs[name] = np.ascontiguousarray(padded[:, :, down : down + height, right : right + width])
        else:
            inputs[name] = array
    return Batch(inputs, batch.labels)
