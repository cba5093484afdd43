import numpy as np
import pytest

from calibration.dataset import Dataset, LoadedData, Preprocessing
from calibration.split import split
from toolchain.errors import DataError


def numbered(count, labels=None, kind="task", source="the file"):
    return Dataset({"x": np.arange(count).reshape(-1, 1)}, labels, Preprocessing(), kind, source)


def ids(data):
    return set(data.inputs["x"][:, 0].tolist())


def test_parts_are_disjoint_and_cover_the_data():
    parts = split(LoadedData(numbered(100)), None, seed=0)
    groups = [ids(parts.train), ids(parts.selection), ids(parts.evaluation)]
    assert [len(group) for group in groups] == [81, 9, 10]
    assert set.union(*groups) == set(range(100))


def test_every_class_keeps_its_share():
    labels = np.repeat([0, 1, 2], [500, 300, 200])
    parts = split(LoadedData(numbered(1000, labels)), None, seed=3)
    assert np.bincount(parts.evaluation.labels).tolist() == [50, 30, 20]
    assert np.abs(np.bincount(parts.selection.labels) - [45, 27, 18]).max() <= 1


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    data = LoadedData(numbered(200, np.arange(200) % 4))
    assert ids(split(data, None, 1).evaluation) == ids(split(data, None, 1).evaluation)
    assert ids(split(data, None, 1).evaluation) != ids(split(data, None, 2).evaluation)


def test_given_evaluation_data_come_before_the_test_part_and_that_before_a_held_out_part():
    train, test, given = numbered(50), numbered(5, source="test part"), numbered(7, source="given")
    assert split(LoadedData(train, test), given, 0).evaluation is given
    assert split(LoadedData(train, test), None, 0).evaluation is test
    assert len(split(LoadedData(train), None, 0).evaluation) == 5


def test_selection_is_bounded():
    assert len(split(LoadedData(numbered(80_000), numbered(5)), None, 0).selection) == 5000


@pytest.mark.parametrize(("count", "test"), [(1, None), (2, None), (1, 4)])
def test_too_few_samples_are_refused(count, test):
    with pytest.raises(DataError, match="at least"):
        split(LoadedData(numbered(count), None if test is None else numbered(test)), None, 0)


@pytest.mark.parametrize("count", [3, 4, 11])
def test_a_few_samples_leave_no_part_empty(count):
    parts = split(LoadedData(numbered(count, np.zeros(count, np.int64))), None, 0)
    assert min(len(parts.train), len(parts.selection), len(parts.evaluation)) >= 1


def test_the_note_says_what_the_quality_is_measured_on():
    labels = np.zeros(20, np.int64)
    assert "held out at random of the 20 in the file" in split(LoadedData(numbered(20, labels)), None, 0).note
    given = numbered(7, np.zeros(7, np.int64), source="eval.npz")
    assert "Accuracy is measured on 7 samples from eval.npz" in split(LoadedData(numbered(9)), given, 0).note
    assert "accuracy was not measured" in split(LoadedData(numbered(9, kind="unlabelled")), None, 0).note
    synthetic = split(LoadedData(numbered(9, kind="synthetic")), None, 0).note
    assert "synthetic inputs; accuracy on real data was not measured" in synthetic
