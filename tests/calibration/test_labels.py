import numpy as np
import pytest

from calibration.labels import check_labels, to_labels
from toolchain.errors import DataError


def test_labels_become_int64_and_lose_a_trailing_dimension_of_one():
    labels = to_labels(np.array([[3], [1]], np.uint8), "a test")
    assert labels.dtype == np.int64
    assert labels.tolist() == [3, 1]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(3, np.float32), "labels are float32, expected integers"),
        (np.array(["cat", "dog"]), "expected integers"),
        (np.eye(3, dtype=np.int64), r"shape \[3, 3\]"),
        (np.array([0, 1, -1]), "label -1 at index 2 is negative"),
    ],
)
def test_labels_of_another_form_are_refused(array, message):
    with pytest.raises(DataError, match=message):
        to_labels(array, "a test")


def test_a_label_out_of_range_is_named_with_its_index():
    with pytest.raises(DataError, match=r"label 10 at index 2 is out of range: the model has 10 classes, so 0 to 9"):
        check_labels(np.array([0, 9, 10, 11]), 10)


def test_labels_in_range_pass():
    check_labels(np.array([0, 9]), 10)
