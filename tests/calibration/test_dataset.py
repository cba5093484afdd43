import time

import numpy as np
import pytest

from calibration.dataset import Dataset, Feed, Preprocessing, default_feed
from toolchain.errors import DataError

FLOAT = Feed(np.dtype(np.float32), 1, normalise=True)


def images(count=6, channels=3, preprocessing=None):
    pixels = np.random.default_rng(0).integers(0, 256, (count, channels, 4, 4), np.uint8)
    return Dataset({"x": pixels}, np.arange(count), preprocessing or Preprocessing(), "task", "a test", {"x": FLOAT})


def test_preprocessing_scales_and_normalises_each_channel():
    pixels = images().inputs["x"]
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    got = Preprocessing(1 / 255, mean, std).apply(pixels)
    expected = (pixels / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_preprocessing_runs_along_the_given_channel_axis_and_one_value_serves_all_channels():
    pixels = images().inputs["x"]
    options = Preprocessing(0.5, (1.0, 2.0, 3.0), (2.0,))
    last = options.apply(pixels.transpose(0, 2, 3, 1), channel_axis=3)
    np.testing.assert_array_equal(last.transpose(0, 3, 1, 2), options.apply(pixels))


def test_preprocessing_leaves_the_raw_array_alone():
    raw = np.ones((2, 3), np.float32)
    Preprocessing(2.0).apply(raw)
    assert (raw == 1).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"std": (0.0,)}, "--std must be positive"),
        ({"std": (0.2, -1.0)}, "--std must be positive"),
        ({"scale": 0.0}, "--scale must not be 0"),
        ({"mean": (float("nan"),)}, "--mean must be finite"),
        ({"mean": (1.0, 2.0), "std": (1.0, 2.0, 3.0)}, "--mean has 2 values and --std 3"),
    ],
)
def test_impossible_preprocessing_is_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        Preprocessing(**arguments)


def test_preprocessing_is_recorded_as_json():
    assert Preprocessing(0.5, (1.0,), (2.0,)).to_json() == {
        "scale": 0.5,
        "mean": [1.0],
        "std": [2.0],
        "layout": "auto",
    }


def test_a_batch_is_model_ready_and_keeps_the_asked_order():
    data = images(preprocessing=Preprocessing(1 / 255))
    batch = data.batch(np.array([4, 1]))
    assert len(batch) == 2
    assert batch.labels.tolist() == [4, 1]
    assert batch.inputs["x"].dtype == np.float32
    assert batch.inputs["x"].flags.c_contiguous
    np.testing.assert_allclose(batch.inputs["x"], data.inputs["x"][[4, 1]] / 255, rtol=1e-6)


def test_batches_cover_every_sample_once_in_order():
    labels = [batch.labels.tolist() for batch in images(7).batches(3)]
    assert labels == [[0, 1, 2], [3, 4, 5], [6]]


def test_raw_bytes_stay_bytes_and_a_subset_keeps_its_labels():
    part = images().subset(np.array([5, 0]))
    assert part.inputs["x"].dtype == np.uint8
    assert part.labels.tolist() == [5, 0]


def test_preloaded_samples_are_the_same_to_the_bit():
    data = images(preprocessing=Preprocessing(1 / 255, (0.1,), (0.3,)))
    ready = data.preload(1 << 20)
    index = np.array([3, 3, 0])
    assert ready.inputs["x"].dtype == np.float32
    np.testing.assert_array_equal(ready.batch(index).inputs["x"], data.batch(index).inputs["x"])
    assert ready.preload(1 << 20).batch(index).inputs["x"][0, 0, 0, 0] == data.batch(index).inputs["x"][0, 0, 0, 0]


def test_data_that_do_not_fit_the_limit_are_not_preloaded():
    data = images()
    assert data.preload(10) is data


def test_integers_pass_unchanged_where_nobody_says_what_the_model_wants():
    assert not default_feed(np.zeros((2, 3), np.int64)).normalise
    assert default_feed(np.zeros((2, 3), np.uint8)).dtype == np.float32


def test_arrays_of_unequal_length_are_refused_by_name():
    with pytest.raises(DataError, match="'a' has 2, 'labels' has 3"):
        Dataset({"a": np.zeros((2, 1))}, np.zeros(3, np.int64), Preprocessing(), "task", "a test")


def test_no_samples_are_refused():
    with pytest.raises(DataError, match="no samples"):
        Dataset({"a": np.zeros((0, 1))}, None, Preprocessing(), "unlabelled", "a test")


def test_a_batch_of_128_digits_takes_less_than_a_millisecond():
    pixels = np.zeros((10_000, 1, 28, 28), np.uint8)
    data = Dataset({"x": pixels}, None, Preprocessing(1 / 255, (0.13,), (0.31,)), "unlabelled", "a test", {"x": FLOAT})
    index = np.random.default_rng(0).integers(0, 10_000, 128)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        data.batch(index)
        times.append(time.perf_counter() - start)
    assert min(times) < 1e-3


def test_whole_sets_are_fed_one_by_one_without_the_sample_dimension():
    data = Dataset(
        {"x": np.ones((3, 1, 2), np.float32), "rate": np.arange(3)}, np.arange(3), Preprocessing(), "task", "sets",
        sets=True,
    )  # fmt: skip
    portions = list(data.batch(np.array([2, 0])).portions(1))
    assert [len(portion) for portion in portions] == [1, 1]
    assert [int(portion.feeds["rate"]) for portion in portions] == [2, 0]
    assert [portion.labels.tolist() for portion in portions] == [[2], [0]]
    assert portions[0].feeds["x"].shape == (1, 2)


def test_a_batch_in_one_portion_is_itself():
    batch = images().batch(np.arange(4))
    assert list(batch.portions(4)) == [batch]
    assert batch.feeds is batch.inputs


def test_the_last_portion_may_be_smaller():
    portions = list(images().batch(np.arange(5)).portions(2))
    assert [portion.labels.tolist() for portion in portions] == [[0, 1], [2, 3], [4]]
