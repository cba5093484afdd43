import numpy as np
import pytest

from calibration.data import Batch
from passes.augment import can_shift, shift_images


def test_images_move_together_by_at_most_a_pixel_and_labels_stay():
    images = np.zeros((2, 1, 20, 20), np.float32)
    images[:, :, 10, 10] = 1
    rng = np.random.default_rng(0)
    places = set()
    for _ in range(60):
        moved = shift_images(Batch({"x": images}, np.array([3, 4])), rng)
        assert moved.inputs["x"].shape == images.shape
        assert moved.labels.tolist() == [3, 4]
        first, second = (tuple(np.argwhere(image[0])[0]) for image in moved.inputs["x"])
        assert first == second
        places.add(first)
    assert places == {(row, column) for row in (9, 10, 11) for column in (9, 10, 11)}


def test_vectors_and_small_images_are_not_shifted():
    for shape in [(8, 10), (8, 1, 8, 8)]:
        assert not can_shift({"x": np.zeros(shape, np.float32)})
    batch = Batch({"x": np.ones((4, 3), np.float32)}, None)
    assert np.array_equal(shift_images(batch, np.random.default_rng(0)).inputs["x"], batch.inputs["x"])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_have_one_three_or_four_channels(channels):
    assert can_shift({"x": np.zeros((2, channels, 16, 20), np.float32)})


def test_channels_last_images_feature_maps_integers_and_masks_are_not_shifted():
    mask = np.zeros((2, 1, 32, 32), np.float32)
    for inputs in (
        {"x": np.zeros((2, 32, 32, 3), np.float32)},
        {"x": np.zeros((2, 32, 32, 64), np.float32)},
        {"x": np.zeros((2, 3, 32, 32), np.int64)},
        {"ids": np.zeros((2, 32), np.int64), "mask": mask},
    ):
        assert not can_shift(inputs)
        moved = shift_images(Batch(inputs, None), np.random.default_rng(0))
        assert all(moved.inputs[name] is array for name, array in inputs.items())
