import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from calibration.dataset import Preprocessing
from calibration.files import check_memory, load_npy, load_npz
from toolchain.errors import DataError

SHARED = (Path(__file__).parents[2] / ".." / "shared").resolve()
PLAIN = Preprocessing(1 / 255)


@pytest.fixture
def digits(graph_of):
    return graph_of("g (float[N, 1, 4, 4] image) => (float[N, 16] y) { y = Flatten(image) }")


@pytest.fixture
def pair(graph_of):
    return graph_of("g (float[N, 2] left, float[N, 2] right) => (float[N, 2] y) { y = Add(left, right) }")


def pixels(count):
    return np.random.default_rng(count).integers(0, 256, (count, 4, 4), np.uint8)


@pytest.mark.parametrize("label_name", ["labels", "y", "y_train"])
def test_arrays_named_after_the_inputs_are_read_with_their_labels(tmp_path, pair, label_name):
    left = np.eye(3, 2, dtype=np.float32)
    np.savez(tmp_path / "d.npz", left=left, right=2 * left, **{label_name: np.array([0, 1, 0])})
    loaded = load_npz(tmp_path / "d.npz", pair, Preprocessing())
    batch = loaded.train.batch(np.array([1]))
    assert batch.labels.tolist() == [1]
    assert batch.inputs["right"].tolist() == [[0, 2]]
    assert loaded.test is None
    assert loaded.train.kind == "task"


def test_train_and_test_arrays_are_told_apart(tmp_path, digits):
    np.savez(tmp_path / "d.npz", x_train=pixels(5), y_train=np.arange(5), x_test=pixels(2), y_test=np.arange(2))
    loaded = load_npz(tmp_path / "d.npz", digits, PLAIN)
    assert (len(loaded.train), len(loaded.test)) == (5, 2)
    assert loaded.train.batch(np.arange(5)).inputs["image"].shape == (5, 1, 4, 4)
    assert loaded.test.labels.tolist() == [0, 1]
    assert loaded.train.inputs["image"].dtype == np.uint8


def test_train_arrays_alone_and_without_labels_are_enough(tmp_path, digits):
    np.savez_compressed(tmp_path / "d.npz", x_train=pixels(5))
    loaded = load_npz(tmp_path / "d.npz", digits, PLAIN)
    assert loaded.test is None
    assert loaded.train.kind == "unlabelled"


def test_an_npy_file_feeds_a_model_of_one_input(tmp_path, digits, pair):
    np.save(tmp_path / "d.npy", pixels(3))
    data = load_npy(tmp_path / "d.npy", digits, PLAIN).train
    assert data.batch(np.array([2])).inputs["image"].max() <= 1
    with pytest.raises(DataError, match="feeds one input, the model has 2: left, right"):
        load_npy(tmp_path / "d.npy", pair, PLAIN)


def test_python_objects_are_never_unpickled(tmp_path, digits):
    objects = np.array([{"a": 1}], object)
    np.savez(tmp_path / "d.npz", image=objects)
    with pytest.raises(DataError, match="array 'image' holds Python objects"):
        load_npz(tmp_path / "d.npz", digits, PLAIN)
    np.save(tmp_path / "d.npy", objects)
    with pytest.raises(DataError, match="cannot read") as caught:
        load_npy(tmp_path / "d.npy", digits, PLAIN)
    assert "Python objects" in caught.value.hint


def test_a_file_that_is_something_else_is_refused(tmp_path, digits):
    for name, reader in (("d.npz", load_npz), ("d.npy", load_npy)):
        (tmp_path / name).write_bytes(b"this is no array")
        with pytest.raises(DataError, match="cannot read"):
            reader(tmp_path / name, digits, PLAIN)


def test_a_truncated_file_is_refused(tmp_path, digits):
    np.savez(tmp_path / "d.npz", image=pixels(50))
    whole = (tmp_path / "d.npz").read_bytes()
    (tmp_path / "d.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot read"):
        load_npz(tmp_path / "d.npz", digits, PLAIN)


def test_a_header_that_announces_more_than_the_file_holds_is_refused_before_memory_is_taken(tmp_path, digits):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (2**45, 4, 4)})
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("image.npy", header.getvalue() + bytes(16))
    with pytest.raises(DataError, match="array 'image' is truncated"):
        load_npz(tmp_path / "d.npz", digits, PLAIN)


def test_labels_given_twice_are_refused(tmp_path, digits):
    np.savez(tmp_path / "d.npz", image=pixels(2), y=np.zeros(2, int), labels=np.zeros(2, int))
    with pytest.raises(DataError, match="labels are given as 'labels' and as 'y'"):
        load_npz(tmp_path / "d.npz", digits, PLAIN)


def test_arrays_and_labels_of_unequal_length_are_refused(tmp_path, digits):
    np.savez(tmp_path / "d.npz", image=pixels(3), y=np.zeros(2, int))
    with pytest.raises(DataError, match="'image' has 3, 'labels' has 2"):
        load_npz(tmp_path / "d.npz", digits, PLAIN)


def test_test_labels_without_test_samples_are_refused(tmp_path, digits):
    np.savez(tmp_path / "d.npz", x_train=pixels(3), y_test=np.zeros(2, int))
    with pytest.raises(DataError, match="y_test but no x_test"):
        load_npz(tmp_path / "d.npz", digits, PLAIN)


def test_data_larger_than_the_machine_are_refused():
    check_memory(1000, "small")
    with pytest.raises(DataError, match="more than a third of this machine's memory"):
        check_memory(2**60, "large")


@pytest.mark.skipif(not (SHARED / "data" / "mnist.npz").exists(), reason="needs the shared MNIST file")
def test_real_digits_fit_a_real_model(graph_of):
    lenet = graph_of("g (float[batch, 1, 28, 28] image) => (float[batch, 784] y) { y = Flatten(image) }")
    loaded = load_npz(SHARED / "data" / "mnist.npz", lenet, Preprocessing(1 / 255, (0.1307,), (0.3081,)))
    assert (len(loaded.train), len(loaded.test)) == (60_000, 10_000)
    first = np.concatenate([batch.inputs["image"] for batch in loaded.train.subset(np.arange(5000)).batches(1000)])
    assert abs(first.mean()) < 0.02
    assert abs(first.std() - 1) < 0.02
