import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from passes.augment import choose_augmentation, takes_images, vary
from toolchain.augmentation import NONE, SHIFT, Augmentation
from toolchain.errors import DataError

IMAGES = {"x": np.zeros((2, 3, 16, 20), np.float32)}


@given(
    shift=st.integers(0, 4),
    flip=st.booleans(),
    channels=st.sampled_from([1, 3]),
    sides=st.tuples(st.integers(8, 12), st.integers(8, 12)),
    seed=st.integers(0, 99),
)
def test_every_image_is_the_crop_of_its_edge_padded_self_that_its_variant_says(shift, flip, channels, sides, seed):
    rng, augmentation = np.random.default_rng(seed), Augmentation(shift, flip)
    images = rng.normal(size=(5, channels, *sides)).astype(np.float32)
    variants = rng.integers(0, augmentation.variants, 5)
    varied = vary(images, variants, augmentation)
    assert varied.flags.c_contiguous
    assert varied.shape == images.shape
    for image, variant, found in zip(images, variants, varied, strict=True):
        padded = np.pad(image, ((0, 0), (shift, shift), (shift, shift)), mode="edge")
        mirrored, place = divmod(int(variant), (2 * shift + 1) ** 2)
        down, right = divmod(place, 2 * shift + 1)
        crop = padded[:, down : down + sides[0], right : right + sides[1]]
        assert np.array_equal(found, crop[..., ::-1] if mirrored else crop)


def test_the_images_given_stay_as_they_are():
    images = np.arange(2 * 16 * 16, dtype=np.float32).reshape(2, 1, 16, 16)
    before = images.copy()
    vary(images, np.array([3, 17]), Augmentation(1, flip=True))
    assert np.array_equal(images, before)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_have_one_three_or_four_channels(channels):
    assert takes_images({"x": np.zeros((2, channels, 16, 20), np.float32)})


NO_IMAGES = [
    {"x": np.zeros((8, 10), np.float32)},
    {"x": np.zeros((2, 32, 32, 3), np.float32)},
    {"x": np.zeros((2, 32, 32, 64), np.float32)},
    {"x": np.zeros((2, 3, 32, 32), np.int64)},
    {"ids": np.zeros((2, 32), np.int64), "mask": np.zeros((2, 1, 32, 32), np.float32)},
]


@pytest.mark.parametrize("inputs", NO_IMAGES)
def test_channels_last_images_feature_maps_integers_and_masks_are_no_images(inputs):
    assert not takes_images(inputs)
    assert choose_augmentation(None, inputs, movable=True) == NONE
    assert choose_augmentation(NONE, inputs, movable=True) == NONE
    with pytest.raises(DataError, match=r"augment: flip varies float images .* the model takes '") as caught:
        choose_augmentation(Augmentation(flip=True), inputs, movable=True)
    assert "--augment" in caught.value.hint


def test_images_are_shifted_by_a_pixel_unless_something_else_is_asked_for():
    assert choose_augmentation(None, IMAGES, movable=True) == SHIFT
    assert choose_augmentation(None, IMAGES, movable=False) == NONE
    assert choose_augmentation(None, {"x": np.zeros((2, 1, 8, 8), np.float32)}, movable=True) == NONE
    assert choose_augmentation(NONE, IMAGES, movable=True) == NONE
    assert choose_augmentation(Augmentation(4, flip=True), IMAGES, movable=False) == Augmentation(4, flip=True)


def test_a_shift_by_more_than_half_of_the_image_names_the_largest_that_can_be():
    with pytest.raises(DataError, match="shift9 moves images of side 16") as caught:
        choose_augmentation(Augmentation(9), IMAGES, movable=True)
    assert "at most 8 pixels" in caught.value.hint
