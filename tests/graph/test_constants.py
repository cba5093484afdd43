import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from toolchain.errors import ModelError
from toolchain.graph.constants import array_of, check_constant


def tensor_of(kind, field, count, dims):
    tensor = TensorProto(data_type=kind, dims=dims)
    getattr(tensor, field).extend([b"1"] * count if field == "string_data" else [1] * count)
    return tensor


def sparse_of(indices, dims=(4, 3), count=2):
    values = numpy_helper.from_array(np.ones(count, np.float32), "w")
    return onnx.SparseTensorProto(values=values, indices=numpy_helper.from_array(np.array(indices)), dims=dims)


@pytest.mark.parametrize(
    ("kind", "field", "needed"),
    [
        (TensorProto.FLOAT, "float_data", 6),
        (TensorProto.FLOAT16, "int32_data", 6),
        (TensorProto.BOOL, "int32_data", 6),
        (TensorProto.INT4, "int32_data", 3),
        (TensorProto.UINT32, "uint64_data", 6),
        (TensorProto.COMPLEX64, "float_data", 12),
        (TensorProto.STRING, "string_data", 6),
    ],
)
def test_typed_data_must_be_as_many_as_the_shape_says(kind, field, needed):
    whole = tensor_of(kind, field, needed, (2, 3))
    check_constant("w", whole)
    assert array_of(whole).shape == (2, 3)
    for count in (0, needed - 1, needed + 1):
        with pytest.raises(ModelError, match=f"tensor 'w' has {count} values in {field}, its shape .* needs {needed}"):
            check_constant("w", tensor_of(kind, field, count, (2, 3)))


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (tensor_of(TensorProto.FLOAT, "float_data", 1, (1,) * 65), "65 dimensions"),
        (tensor_of(99, "float_data", 1, (1,)), "unknown element type 99"),
        (tensor_of(TensorProto.UNDEFINED, "float_data", 1, (1,)), "unknown element type 0"),
        (tensor_of(TensorProto.FLOAT, "float_data", 0, (2**60, 2**60)), r"0 values .* needs 1,329,"),
        (TensorProto(data_type=1, dims=[1], segment=TensorProto.Segment(begin=0, end=1)), "segment"),
    ],
    ids=["rank", "type", "no type", "size", "segment"],
)
def test_a_tensor_that_cannot_be_held_is_refused_by_name(tensor, reason):
    with pytest.raises(ModelError, match=f"tensor 'w' .*{reason}"):
        check_constant("w", tensor)


def test_sparse_tensors_with_sound_indices_are_decoded():
    for indices in ([0, 11], [[0, 0], [3, 2]]):
        sparse = sparse_of(indices)
        check_constant("w", sparse)
        expected = np.zeros((4, 3))
        expected[0, 0] = expected[3, 2] = 1
        np.testing.assert_array_equal(array_of(sparse), expected)


@pytest.mark.parametrize(
    ("sparse", "reason"),
    [
        (sparse_of([0, 12]), "an index outside"),
        (sparse_of([-1, 3]), "an index outside"),
        (sparse_of([[0, 0], [0, 3]]), "an index outside"),
        (sparse_of([0]), r"indices of shape \[1\]"),
        (sparse_of([[0], [1]]), r"indices of shape \[2, 1\]"),
        (sparse_of([0, 1], dims=(2**20, 2**10)), "too many"),
        (sparse_of([0, 1], dims=(2**60, 2**60)), "too many"),
    ],
)
def test_a_sparse_tensor_that_its_file_does_not_justify_is_refused_by_name(sparse, reason):
    with pytest.raises(ModelError, match=f"sparse tensor 'w' .*{reason}"):
        check_constant("w", sparse)


def test_the_parts_of_a_sparse_tensor_are_checked_too():
    sparse = sparse_of([0, 1])
    sparse.indices.raw_data += bytes(8)
    with pytest.raises(ModelError, match="'indices of w' has 24 bytes"):
        check_constant("w", sparse)
    sparse = sparse_of([0, 1])
    sparse.values.CopyFrom(helper.make_tensor("w", TensorProto.FLOAT, [2], [1, 1]))
    sparse.values.float_data.append(1)
    with pytest.raises(ModelError, match="'w' has 3 values"):
        check_constant("w", sparse)
