import numpy as np
import pytest

from calibration.classes import class_outputs, class_scores, most_accurate


@pytest.mark.parametrize("shape", [(4, 2), (4, 3), (4, 3, 1), (4, 3, 1, 1)])
def test_a_row_per_sample_is_class_scores_whatever_ones_trail(shape):
    scores = class_scores(np.zeros(shape, np.float32), 4)
    assert scores.shape == shape[:2]


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 1, 3), (4, 3, 2), (1, 3), ()])
def test_single_values_maps_and_other_batch_sizes_are_not(shape):
    assert class_scores(np.zeros(shape, np.float32), 4) is None


def test_integers_are_not_class_scores():
    assert class_scores(np.zeros((4, 3), np.int64), 4) is None


def test_candidates_keep_the_order_of_the_outputs():
    outputs = {"features": np.zeros((2, 5, 4)), "b": np.zeros((2, 3)), "a": np.zeros((2, 7, 1))}
    assert list(class_outputs(outputs, 2)) == ["b", "a"]


@pytest.mark.parametrize(
    ("shape", "declared", "kept"),
    [
        ((2, 5, 1), ("N", "M", 1), False),
        ((2, 5, 1, 1), ("N", None, 1, 1), False),
        ((2, 5, 1), ("N", 5, 1), True),
        ((2, 5), ("N", "M"), True),
        ((2, 5), None, True),
    ],
)
def test_as_many_columns_as_the_input_asks_for_are_places_and_no_classes(shape, declared, kept):
    assert list(class_outputs({"y": np.zeros(shape, np.float32)}, 2, {"y": declared})) == ["y"] * kept


def test_labels_speak_of_the_output_that_answers_them_best_and_of_the_first_of_equals():
    labels = np.array([0, 1, 2])
    right, wrong = np.eye(3), np.roll(np.eye(3), 1, axis=1)
    assert most_accurate({"wrong": wrong, "right": right}, labels) == "right"
    assert most_accurate({"first": right, "second": right}, labels) == "first"


def test_an_output_with_a_class_for_every_label_comes_before_one_without():
    labels = np.array([0, 0, 2])
    two = np.tile([1.0, 0.0], (3, 1))  # right twice
    three = np.tile([0.0, 1.0, 0.0], (3, 1))  # never right
    assert most_accurate({"two": two, "three": three}, labels) == "three"
