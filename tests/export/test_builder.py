"""Decode nodes are small, and their names collide with nothing."""

import numpy as np
import onnx

from toolchain.export.builder import Builder, free_prefix


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
