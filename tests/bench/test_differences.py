import numpy as np
import pytest

from toolchain.bench.differences import difference, largest_difference, model_differences


def floats(*values):
    return np.array(values, np.float32)


def test_equal_outputs_do_not_differ():
    found = difference("y", floats([1, 2], [4, 3]), floats([1, 2], [4, 3]))
    assert found == {"name": "y", "max_abs": 0, "max_relative": 0, "top1_agreement": 1, "objection": None}


def test_the_largest_difference_is_found_and_set_beside_the_largest_value():
    found = difference("y", floats([1, 2.5], [4, 3]), floats([1, 2], [4, 3]))
    assert found["max_abs"] == 0.5
    assert found["max_relative"] == 0.125


def test_top1_counts_rows_that_choose_the_same_class():
    there = floats([1, 2], [2, 1], [1, 2], [1, 2])
    here = floats([1, 2], [1, 2], [1, 2], [1, 2])
    assert difference("y", there, here)["top1_agreement"] == 0.75


@pytest.mark.parametrize("shape", [(4,), (4, 1), (2, 2, 2), (0, 3)])
def test_top1_is_left_out_where_there_are_no_classes(shape):
    assert difference("y", np.ones(shape, np.float32), np.ones(shape, np.float32))["top1_agreement"] is None


def test_whole_numbers_do_not_wrap_around():
    assert difference("y", np.array([255], np.uint8), np.array([0], np.uint8))["max_abs"] == 255


@pytest.mark.parametrize(
    ("there", "here", "objection"),
    [
        (floats(1, 2), floats(1), r"float32\[2\] there, float32\[1\] here"),
        (np.array([1]), floats(1), "int64"),
        (floats(np.nan, 1), floats(0, 1), "not a number in other places"),
        (floats(np.inf, 1), floats(-np.inf, 1), "infinite with another sign"),
    ],
)
def test_what_cannot_be_compared_says_why(there, here, objection):
    found = difference("y", there, here)
    assert found["max_abs"] is None
    assert np.char.find(found["objection"], objection.replace("\\", "")) >= 0


def test_what_is_infinite_or_not_a_number_on_both_sides_is_equal():
    values = floats(np.nan, np.inf, -np.inf, 1)
    assert difference("y", values, values)["max_abs"] == 0


def test_nothing_is_relative_to_zeros():
    assert difference("y", floats(1), floats(0))["max_relative"] is None


def test_outputs_are_matched_by_name():
    names = [{"name": "a", "array": 0}, {"name": "b", "array": 1}]
    found = model_differences(names, [floats(1), floats(5)], names[::-1], [floats(1), floats(2)])
    assert [output["max_abs"] for output in found] == [0, 3]


@pytest.mark.parametrize("here", [[], [{"name": "a", "array": None}]])
def test_an_output_that_is_missing_or_no_numbers_is_not_compared(here):
    (found,) = model_differences([{"name": "a", "array": 0}], [floats(1)], here, [])
    assert found["objection"]


def test_the_largest_of_several_models_is_reported_unless_one_is_unknown():
    first, second = ({"differences": [difference("y", floats(value), floats(0))]} for value in (1, 2))
    assert largest_difference([first, second]) == 2
    assert largest_difference([first, {}]) is None
    assert largest_difference([first, {"differences": [difference("y", floats(1, 1), floats(0))]}]) is None
