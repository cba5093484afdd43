"""Decode nodes are small, and their names collide with nothing."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from toolchain.export.builder import Builder, free_prefix, make_tensor


def test_a_free_prefix_begins_no_known_name():
    assert free_prefix({"x", "conv"}) == "_"
    assert free_prefix({"_x", "_ab"}) == "_aa"


def test_equal_constants_are_stored_once_and_forks_know_them():
    builder = Builder("_")
    name = builder.ints([1, 2])
    child = builder.fork()
    assert child.ints([1, 2]) == name
    assert child.bytes == 0
    assert child.ints([3]) != name


def test_bytes_are_what_the_serialized_graph_grows_by():
    builder = Builder("_")
    value = builder.tensor(np.arange(300, dtype=np.float32))
    builder.cast(value, onnx.TensorProto.INT32)
    graph = onnx.GraphProto(node=builder.nodes, initializer=builder.initializers)
    assert builder.bytes == graph.ByteSize()


def test_a_thousand_names_are_distinct_and_short():
    builder = Builder("_")
    names = [builder.fresh() for _ in range(1000)]
    assert len(set(names)) == 1000
    assert max(map(len, names)) == 3


@given(
    values=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=70),
    dtype=st.sampled_from([np.int32, np.int64, np.uint8]),
)
def test_initializers_hold_what_they_are_given_in_no_more_bytes_than_usual(values, dtype):
    array = np.array(values).astype(dtype)
    made = make_tensor(array, "t")
    assert np.array_equal(numpy_helper.to_array(made), array)
    assert numpy_helper.to_array(made).dtype == dtype
    assert made.ByteSize() <= numpy_helper.from_array(array, "t").ByteSize()


@pytest.mark.parametrize("shape", [(20, 1, 5, 5), (1748,)])
def test_a_shape_takes_a_byte_or_two_per_dimension(shape):
    assert make_tensor(np.array(shape, np.int64), "t").ByteSize() <= 2 * len(shape) + 9


def test_values_are_added_once_for_all_who_ask():
    builder = Builder("_")
    added = []
    names = [builder.once(np.array([1.5, 2.5], np.float32), added.append) for _ in range(3)]
    assert names == [added[0]] * 3
    assert len(added) == 1
