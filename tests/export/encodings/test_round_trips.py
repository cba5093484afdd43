"""Every encoding gives back what went in, bit for bit, and is decoded once, at load."""

import numpy as np
import onnx
import pytest
from encoding_cases import contents, decoded, same
from hypothesis import given, settings
from hypothesis import strategies as st

from toolchain.errors import ExportError
from toolchain.export.builder import Builder
from toolchain.export.encodings import ENCODINGS, Content, encode_smallest, positions


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda item: f"{item.encode.__module__}.{item.encode.__name__}")
@settings(max_examples=40, deadline=None)
@given(content=contents(), opset=st.sampled_from([11, 13, 17, 21]))
def test_a_round_trip_is_bit_exact_and_folds(encoding, content, opset):
    builder = Builder("_")
    if encoding.encode(builder, content, "out"):
        assert same(decoded(builder, ["out"], opset)[0], content.array)


@pytest.mark.parametrize("opset", [11, 13, 17, 21])
@pytest.mark.parametrize("size", [300, 5000, 700_000])
def test_far_apart_positions_round_trip(opset, size):
    array = np.zeros(size, np.int8)
    array[[0, size // 2, size - 1]] = [1, -2, 3]
    for encoding in ENCODINGS:
        builder = Builder("_")
        if encoding.encode(builder, Content(array), "out"):
            assert same(decoded(builder, ["out"], opset)[0], array)


def test_a_single_kept_value_round_trips():
    for position in (0, 77, 99):
        array = np.zeros((10, 10), np.float32)
        array.flat[position] = -0.5
        builder = Builder("_")
        encode_smallest(builder, Content(array), "out", opset=13)
        assert same(decoded(builder, ["out"], 13)[0], array)


def test_a_scalar_and_an_empty_tensor_round_trip():
    for array in (np.zeros((0, 3), np.float32), np.array(2.5, np.float32), np.array([7], np.int8)):
        builder = Builder("_")
        encode_smallest(builder, Content(array), "out", opset=13)
        assert same(decoded(builder, ["out"], 13)[0], array)


@pytest.mark.parametrize(("kept", "excess"), [(1 / 36, 1.03), (1 / 4, 1.06), (1 / 100, 1.04)])
def test_packed_positions_come_near_the_entropy_bound(kept, excess):
    rng = np.random.default_rng(0)
    array = np.where(rng.random((512, 4608)) < kept, rng.choice([-2, -1, 1, 2], (512, 4608)), 0).astype(np.int8)
    builder = Builder("_")
    assert encode_smallest(builder, Content(array), "out", opset=13) == "packed"
    share = np.count_nonzero(array) / array.size
    bound = array.size * (-share * np.log2(share) - (1 - share) * np.log2(1 - share) + 2 * share) / 8
    assert bound < builder.bytes < excess * bound + 700


def test_binary_weights_take_one_bit_each():
    array = np.random.default_rng(0).choice([-1, 1], (500, 800)).astype(np.int8)
    builder = Builder("_")
    encode_smallest(builder, Content(array), "out", opset=13)
    assert builder.bytes < array.size / 8 + 400


def test_positions_are_stored_in_the_smaller_order():
    array = np.zeros((256, 256), np.int8)
    array[:, :8] = np.random.default_rng(0).choice([-1, 1], (256, 8))
    builder = Builder("_")
    assert positions.encode(builder, Content(array), "out")
    assert builder.nodes[-1].op_type == "Transpose"
    assert same(decoded(builder, ["out"], 13)[0], array)


@pytest.mark.parametrize("levels", [(-1, 1), tuple(range(1, 100)), None])
@pytest.mark.parametrize("opset", [11, 17])
def test_empty_rows_and_columns_take_a_bit_each(levels, opset):
    rng = np.random.default_rng(0)
    array = np.zeros((200, 30, 3, 3), np.float32 if levels is None else np.int8)
    rows, columns = np.flatnonzero(rng.random(200) < 0.6), np.flatnonzero(rng.random(270) < 0.5)
    values = (
        rng.standard_normal((rows.size, columns.size)) + 5
        if levels is None
        else rng.choice(levels, (rows.size, columns.size))
    )
    array.reshape(200, 270)[np.ix_(rows, columns)] = values
    builder = Builder("_")
    assert encode_smallest(builder, Content(array), "out", opset=opset) == "packed"
    width = {(-1, 1): 1, None: 32}.get(levels, 7)
    assert builder.bytes < values.size * width / 8 + (200 + 270) / 8 + 1500
    assert same(decoded(builder, ["out"], opset)[0], array)


def test_an_old_opset_falls_back_to_dense():
    builder = Builder("_")
    assert encode_smallest(builder, Content(np.ones((64, 64), np.int8)), "out", opset=10) == "dense"


def test_other_element_types_are_refused_by_name():
    with pytest.raises(ExportError, match="float64"):
        encode_smallest(Builder("_"), Content(np.ones(3)), "out", opset=13)


def test_two_tensors_share_their_constants():
    rng = np.random.default_rng(0)
    array = np.where(rng.random((50, 80)) < 0.03, rng.choice([-2, -1, 1, 2], (50, 80)), 0).astype(np.int8)
    builder = Builder("_")
    encode_smallest(builder, Content(array), "a", opset=13)
    first = builder.bytes
    encode_smallest(builder, Content(np.ascontiguousarray(array[::-1])), "b", opset=13)
    assert builder.bytes - first < first
    names = [tensor.name for tensor in builder.initializers]
    assert len(names) == len(set(names))
    assert not onnx.GraphProto(node=builder.nodes).node[0].name
