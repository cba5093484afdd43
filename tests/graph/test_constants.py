import tracemalloc

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from toolchain.errors import ExportError
from toolchain.graph.constants import array_of, constant_of, own_array_of, same_bits, store

FLOATS = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
    TensorProto.FLOAT16: np.float16,
    TensorProto.BFLOAT16: ml_dtypes.bfloat16,
}
OTHERS = (TensorProto.INT64, TensorProto.BOOL, TensorProto.INT4, TensorProto.FLOAT8E4M3FN)


def tensor_of(kind, raw, values=((1, -2, 3), (0, 0.5, -6))):
    array = np.array(values).astype(helper.tensor_dtype_to_np_dtype(kind))
    if raw:
        return numpy_helper.from_array(array, "w")
    return helper.make_tensor("w", kind, array.shape, array.reshape(-1))


def sparse_of(indices, values=(1.0, 2.0), shape=(2, 3)):
    dense = np.array(values, np.float32)
    return helper.make_sparse_tensor(numpy_helper.from_array(dense, "w"), numpy_helper.from_array(indices), shape)


def fields(tensor):
    return [field.name for field, _ in tensor.ListFields()]


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
@pytest.mark.parametrize("kind", [*FLOATS, *OTHERS])
def test_an_own_array_can_be_written_and_is_nobody_elses(kind, raw):
    tensor = tensor_of(kind, raw)
    before = array_of(tensor)
    own = own_array_of(tensor)
    assert own.flags.writeable
    assert same_bits(own, before)
    own[...] = own[0, 0] * 0
    assert same_bits(array_of(tensor), before)
    assert same_bits(own_array_of(tensor), before)


def test_an_own_array_costs_its_own_memory_and_no_more():
    tensor = numpy_helper.from_array(np.ones((1000, 1000), np.float32))
    tracemalloc.start()
    try:
        own = own_array_of(tensor)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert own.nbytes <= peak < 1.1 * own.nbytes


def test_an_own_array_without_elements_is_empty():
    tensor = numpy_helper.from_array(np.zeros((0, 3), np.float32))
    assert own_array_of(tensor).shape == (0, 3)


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
@pytest.mark.parametrize("kind", FLOATS)
def test_stored_values_are_read_back_bit_for_bit_in_the_same_encoding(kind, raw):
    tensor = tensor_of(kind, raw)
    expected = fields(tensor)
    values = np.array([[-0.0, np.inf, 1e-3], [7, -1, np.nan]]).astype(FLOATS[kind])
    store(tensor, values)
    assert same_bits(array_of(tensor), values)
    assert fields(tensor) == expected


@pytest.mark.parametrize("positions", [[1, 5], [[0, 1], [1, 2]]], ids=["linear", "coordinates"])
@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
def test_a_sparse_tensor_keeps_its_positions_where_they_suffice(positions, raw):
    sparse = sparse_of(np.array(positions))
    if not raw:
        positions = np.array(positions)
        indices = helper.make_tensor("", TensorProto.INT64, positions.shape, positions.reshape(-1))
        sparse.indices.CopyFrom(indices)
    indices = sparse.indices.SerializeToString()
    values = np.array([[0, 7, 0], [0, 0, 0]], np.float32)
    store(sparse, values)
    assert same_bits(array_of(sparse), values)
    assert sparse.indices.SerializeToString() == indices


@pytest.mark.parametrize("positions", [[1, 5], [[0, 1], [1, 2]]], ids=["linear", "coordinates"])
def test_a_sparse_tensor_gets_the_positions_that_are_no_longer_zero(positions):
    sparse = sparse_of(np.array(positions))
    values = np.array([[-0.0, 7, 0], [3, 0, 0]], np.float32)
    store(sparse, values)
    assert same_bits(array_of(sparse), values)
    assert sparse.values.dims == [4]
    assert list(sparse.indices.dims) == [4, *np.shape(positions)[1:]]
    assert sparse.values.name == "w"


def test_a_sparse_tensor_in_external_data_cannot_be_changed():
    sparse = sparse_of(np.array([1, 5]))
    sparse.values.data_location = TensorProto.EXTERNAL
    with pytest.raises(ExportError, match="'w' is in external data"):
        store(sparse, np.ones((2, 3), np.float32))


@pytest.mark.parametrize(("name", "values"), [("value_float", 0.1), ("value_floats", [0.1, -2.0, 3.5])])
def test_plain_floats_of_a_constant_node_are_stored(name, values):
    node = helper.make_node("Constant", [], ["c"], **{name: values})
    constant = constant_of(node.attribute[0])
    new = (array_of(constant) * np.float32(3)).astype(np.float32)
    store(constant, new)
    assert same_bits(array_of(constant_of(node.attribute[0])), new)
    assert node.attribute[0].name == name


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        ({"value_int": 3}, np.array(3)),
        ({"value_ints": [3, 4]}, np.array([3, 4])),
        ({"value_string": "a"}, np.array(b"a", object)),
        ({"value_strings": ["a", "b"]}, np.array([b"a", b"b"], object)),
        ({"value": numpy_helper.from_array(np.array([True]))}, np.array([True])),
        ({"sparse_value": sparse_of(np.array([1, 5]))}, np.array([[0, 1, 0], [0, 0, 2]], np.float32)),
    ],
    ids=lambda item: next(iter(item)) if isinstance(item, dict) else "",
)
def test_every_kind_of_constant_node_has_its_value(attribute, expected):
    found = array_of(constant_of(helper.make_node("Constant", [], ["c"], **attribute).attribute[0]))
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_the_constant_is_a_part_of_the_model():
    node = onnx.NodeProto(op_type="Constant")
    node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t.CopyFrom(tensor_of(TensorProto.FLOAT, True))
    store(constant_of(node.attribute[0]), np.ones((2, 3), np.float32))
    np.testing.assert_array_equal(numpy_helper.to_array(node.attribute[0].t), np.ones((2, 3)))


def test_bits_are_compared_not_values():
    one = np.array([np.nan, 0.0], np.float32)
    assert same_bits(one, one.copy())
    assert not same_bits(one, np.array([np.nan, -0.0], np.float32))
    assert same_bits(one[::-1], np.array([0.0, np.nan], np.float32))
    assert same_bits(None, None)
    assert not same_bits(one, None)
