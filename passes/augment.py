"""Vectorised augmentation that keeps what an image shows."""

from collections.abc import Mapping

import numpy as np

from toolchain.augmentation import NONE, SHIFT, Augmentation
from toolchain.errors import DataError

SMALLEST_SIDE = 16  # below this a pixel is too large a part of the image
CHANNELS = (1, 3, 4)  # grey, colour, colour with transparency


def takes_images(inputs: Mapping[str, np.ndarray]) -> bool:
    """Return whether a batch of model inputs is a batch of images ``[N, C, H, W]``.

    It is where the only input is a float array of 1, 3 or 4 channels in the second dimension. So channels-last images,
    feature maps, and the masks ``[N, 1, T, T]`` that come beside token inputs are none.
    """
    if len(inputs) != 1:
        return False
    (array,) = inputs.values()
    return array.ndim == 4 and array.dtype.kind == "f" and array.shape[1] in CHANNELS


def choose_augmentation(wish: Augmentation | None, inputs: Mapping[str, np.ndarray], movable: bool) -> Augmentation:
    """Return how training varies its images.

    Mirroring is nothing to do unasked: a mirrored digit is another digit, or none.

    Args:
        wish: what is asked for; None shifts images of at least 16 pixels by one pixel where that is ``movable``.
        inputs: a batch as the model is fed.
        movable: whether the model's outputs hardly change when an image moves by a pixel.

    Raises:
        DataError: images are to be varied, and the model takes none, or none that large.
    """
    images = takes_images(inputs)
    side = min(next(iter(inputs.values())).shape[2:]) if images else 0
    if wish is None:
        return SHIFT if movable and side >= SMALLEST_SIDE else NONE
    if wish == NONE or (images and wish.shift <= side // 2):
        return wish
    if images:
        raise DataError(
            f"augment: shift{wish.shift} moves images of side {side} by more than half of it",
            hint=f"shift by at most {side // 2} pixels",
        )
    shapes = ", ".join(f"{name!r} {['N', *array.shape[1:]]} {array.dtype}" for name, array in inputs.items())
    raise DataError(
        f"augment: {wish} varies float images [N, channels, height, width] of 1, 3 or 4 channels as the only input, "
        f"and the model takes {shapes}".replace("'N'", "N"),
        hint="leave --augment out, or give --augment none",
    )


def vary(images: np.ndarray, variants: np.ndarray, augmentation: Augmentation) -> np.ndarray:
    """Return every image in one of the versions that the augmentation has, contiguous.

    Args:
        images: ``[N, C, H, W]``; not changed.
        variants: ``[N]`` numbers of the versions, each below ``augmentation.variants``.
        augmentation: what the numbers mean.
    """
    reach = augmentation.shift
    flipped, moved = np.divmod(variants, (2 * reach + 1) ** 2)
    varied = images
    if reach:
        height, width = images.shape[2:]
        padded = np.pad(images, ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
        down, right = np.divmod(moved, 2 * reach + 1)
        varied = windows[np.arange(len(images)), :, down, right]  # copies, window by window
    if augmentation.flip:
        varied = np.where(flipped.astype(bool)[:, None, None, None], varied[..., ::-1], varied)
    return np.ascontiguousarray(varied)
