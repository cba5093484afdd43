from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calibration.dataset import Preprocessing
from calibration.images import load_images
from toolchain.errors import DataError

PLAIN = Preprocessing(1 / 255)


@pytest.fixture
def colour(graph_of):
    return graph_of("g (float[N, 3, 8, 6] x) => (float[N, 2] y) { y = Flatten(x) }")


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def noise(*shape):
    return np.random.default_rng(len(shape)).integers(0, 256, shape, np.uint8)


def test_class_folders_in_name_order_become_labels(tmp_path, colour):
    pixels = noise(8, 6, 3)
    save(tmp_path / "b" / "1.png", pixels)
    save(tmp_path / "a" / "2.png", pixels // 2)
    save(tmp_path / "a" / "1.bmp", pixels // 4)
    (tmp_path / "a" / "readme.txt").write_text("no image")
    data = load_images(tmp_path, colour, PLAIN).train
    assert data.labels.tolist() == [0, 0, 1]
    np.testing.assert_array_equal(data.inputs["x"][2], pixels.transpose(2, 0, 1))
    assert data.kind == "task"
    assert "3 images in 2 class folders" in data.source
    assert "resized" not in data.source


@pytest.mark.parametrize("part", ["test", "val"])
def test_train_and_test_folders_are_told_apart(tmp_path, colour, part):
    save(tmp_path / "train" / "a" / "1.png", noise(8, 6, 3))
    save(tmp_path / "train" / "b" / "1.png", noise(8, 6, 3))
    save(tmp_path / part / "b" / "1.png", noise(8, 6, 3))
    loaded = load_images(tmp_path, colour, PLAIN)
    assert len(loaded.train) == 2
    assert loaded.test.labels.tolist() == [1]


def test_a_class_that_only_the_test_part_has_is_refused(tmp_path, colour):
    save(tmp_path / "train" / "a" / "1.png", noise(8, 6, 3))
    save(tmp_path / "test" / "c" / "1.png", noise(8, 6, 3))
    with pytest.raises(DataError, match="class folder 'c' is not in the training part"):
        load_images(tmp_path, colour, PLAIN)


def test_other_sizes_are_scaled_by_the_short_side_and_cropped_around_the_centre(tmp_path, colour):
    wide = np.zeros((16, 36, 3), np.uint8)
    wide[:, 12:24] = 200  # the middle third is what remains
    save(tmp_path / "a" / "1.png", wide)
    save(tmp_path / "a" / "2.png", noise(8, 6, 3))
    data = load_images(tmp_path, colour, PLAIN).train
    assert (data.inputs["x"][0][:, :, 1:-1] == 200).all()
    assert "1 of them resized to 6x8" in data.source


def test_the_models_channel_count_decides_between_grey_and_colour(tmp_path, colour, graph_of):
    save(tmp_path / "a" / "1.png", noise(8, 6, 3))
    save(tmp_path / "a" / "2.png", noise(8, 6))
    grey = graph_of("g (float[N, 1, 8, 6] x) => (float[N, D] y) { y = Flatten(x) }")
    assert load_images(tmp_path, grey, PLAIN).train.inputs["x"].shape == (2, 1, 8, 6)
    turned = load_images(tmp_path, colour, PLAIN).train.inputs["x"]
    assert (turned[1, 0] == turned[1, 2]).all()


def test_the_first_image_gives_the_size_where_the_model_leaves_it_open(tmp_path, graph_of):
    save(tmp_path / "a" / "1.png", noise(5, 7, 3))
    save(tmp_path / "a" / "2.png", noise(10, 14, 3))
    free = graph_of("g (float[N, 3, H, W] x) => (float[N, D] y) { y = Flatten(x) }")
    assert load_images(tmp_path, free, PLAIN).train.inputs["x"].shape == (2, 3, 5, 7)


def test_what_is_said_of_the_layout_of_arrays_does_not_concern_images(tmp_path, colour):
    save(tmp_path / "a" / "1.png", noise(8, 6, 3))
    data = load_images(tmp_path, colour, Preprocessing(1 / 255, layout="nchw")).train
    assert data.inputs["x"].shape == (1, 3, 8, 6)
    assert data.preprocessing.layout == "nchw"


def test_a_broken_image_is_named(tmp_path, colour):
    save(tmp_path / "a" / "1.png", noise(8, 6, 3))
    whole = (tmp_path / "a" / "1.png").read_bytes()
    (tmp_path / "a" / "2.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cannot read image .*2\.png"):
        load_images(tmp_path, colour, PLAIN)
    (tmp_path / "a" / "2.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"cannot read image .*2\.png"):
        load_images(tmp_path, colour, PLAIN)


def test_sixteen_bit_images_are_refused_and_not_clipped(tmp_path, colour):
    save(tmp_path / "a" / "1.png", np.full((8, 6), 40_000, np.uint16))
    with pytest.raises(DataError, match="more than 8 bits"):
        load_images(tmp_path, colour, PLAIN)


def test_a_folder_without_class_folders_is_refused(tmp_path, colour):
    with pytest.raises(DataError, match="no folders in it"):
        load_images(tmp_path, colour, PLAIN)
    save(tmp_path / "1.png", noise(8, 6, 3))
    with pytest.raises(DataError, match="no folders in it") as caught:
        load_images(tmp_path, colour, PLAIN)
    assert "CLASS/NAME.png" in caught.value.hint
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match="hold no images"):
        load_images(tmp_path, colour, PLAIN)


def test_a_model_that_takes_no_images_is_refused(tmp_path, graph_of):
    model = graph_of("g (float[N, 8] x) => (float[N, 8] y) { y = Identity(x) }")
    with pytest.raises(DataError, match="has 2 dimensions, images need 4"):
        load_images(tmp_path, model, PLAIN)


def test_another_number_of_classes_than_the_model_has_is_noted(tmp_path, colour):
    for name in "abc":
        save(tmp_path / name / "1.png", noise(8, 6, 3))
    assert "3 class folders" in load_images(tmp_path, colour, PLAIN).notes[0]


def test_a_folder_that_cannot_be_read_is_named(tmp_path, colour, monkeypatch):
    def denied(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(DataError, match=r"cannot read the folder .*: Permission denied"):
        load_images(tmp_path, colour, PLAIN)
