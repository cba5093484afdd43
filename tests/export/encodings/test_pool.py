"""Tensors that are decoded together come back bit for bit, and take fewer bytes than each by itself."""

from collections.abc import Sequence

import numpy as np
import pytest
from encoding_cases import LEVELS, contents, decoded, same
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from toolchain.export.builder import Builder
from toolchain.export.encodings import Content, encode_pending, encode_smallest, pool


@settings(max_examples=60, deadline=None)
@given(
    tensors=st.lists(contents(), min_size=1, max_size=6),
    floats=st.sets(st.integers(0, 5)),
    opset=st.sampled_from([11, 13, 17, 21]),
)
def test_whatever_is_left_pending_comes_back_bit_for_bit(tensors, floats, opset):
    builder = Builder("_", pools=True)
    wanted = {f"out{number}": item for number, item in enumerate(tensors)}
    for number, (name, item) in enumerate(wanted.items()):
        encode_smallest(builder, Content(item.array, item.background, floats=number in floats), name, opset)
    pending = set(builder.pending)  # some are what is left of a tensor without its empty rows
    assert encode_pending(builder, opset).keys() == pending
    assert not builder.pending
    for number, (item, value) in enumerate(zip(tensors, decoded(builder, list(wanted), opset), strict=True)):
        assert same(value, item.array.astype(np.float32) if number in floats else item.array)


@settings(max_examples=60, deadline=None)
@given(tensors=st.lists(contents(), min_size=1, max_size=5), opset=st.sampled_from([11, 13, 21]))
def test_tensors_that_fit_together_round_trip(tensors, opset):
    prepared = {f"out{number}": pool.prepare(item) for number, item in enumerate(tensors)}
    groups = pool.divide({name: item for name, item in prepared.items() if item is not None})
    builder = Builder("_")
    for group in groups:
        pool.encode(builder, group, opset)
    names = [name for group in groups for name in group]
    if names:
        for name, value in zip(names, decoded(builder, names, opset), strict=True):
            assert same(value, prepared[name].content.array)


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("kept", [0.02, 1.0])
def test_tensors_with_the_same_rows_are_given_their_shapes_together(kept, opset):
    rng = np.random.default_rng(0)
    shapes = [(80, 4, 3), (60, 12), (160,), (240, 4, 3), (100, 4, 3), (70, 4, 3), (20, 12)]
    arrays = [np.where(rng.random(shape) < kept, rng.choice(LEVELS[0], shape), 0).astype(np.int8) for shape in shapes]
    together = {f"out{number}": pool.prepare(Content(array)) for number, array in enumerate(arrays)}
    assert {item.index is None for item in together.values()} == {kept == 1.0}
    builder = Builder("_")
    pool.encode(builder, together, opset)
    assert all(map(same, decoded(builder, list(together), opset), arrays))
    rows = [node for node in builder.nodes if node.op_type == "Reshape" and node.output[0] not in together]
    assert sum(len(node.output) == 4 for node in builder.nodes if node.input[0] in [row.output[0] for row in rows]) == 1


@pytest.mark.parametrize("position", [0, 77, 99])
def test_single_kept_values_round_trip_together(position):
    array = np.zeros((10, 10), np.int8)
    array.flat[position] = -3
    other = np.zeros((300, 40), np.int8)
    other.flat[[5, 11_999]] = 3, 4
    builder = Builder("_")
    pool.encode(builder, {"a": pool.prepare(Content(array)), "b": pool.prepare(Content(other))}, 17)
    assert [same(*pair) for pair in zip(decoded(builder, ["a", "b"], 17), (array, other), strict=True)] == [True, True]


def test_what_has_one_value_or_too_many_levels_or_elements_is_not_pooled():
    for array in (np.zeros((4, 4), np.int8), np.full((3, 2), 5, np.uint8), np.array([1], np.int8)):
        assert pool.prepare(Content(array)) is None
    every = np.random.default_rng(0).permutation(np.arange(256, dtype=np.uint8)).reshape(16, 16)
    assert pool.prepare(Content(every)) is None
    half_full = np.random.default_rng(0).integers(-1, 2, (1025, 1024)).astype(np.int8)
    assert pool.prepare(Content(half_full)) is None
    assert pool.prepare(Content(np.eye(2049, 2048, dtype=np.int8))) is None


def test_a_large_tensor_that_is_nearly_empty_is_pooled():
    array = np.eye(1025, 1024, dtype=np.int8) - np.eye(1025, 1024, 3, dtype=np.int8)
    builder = Builder("_")
    pool.encode(builder, {"out": pool.prepare(Content(array))}, 17)
    assert same(decoded(builder, ["out"], 17)[0], array)


def test_twenty_small_tensors_take_a_fraction_of_the_decode_nodes():
    rng = np.random.default_rng(0)
    arrays = [np.where(rng.random((16, 16, 3, 3)) < 0.1, rng.choice(LEVELS[1], (16, 16, 3, 3)), 0) for _ in range(20)]
    together, alone = Builder("_", pools=True), Builder("_")
    for builder in (together, alone):
        for number, array in enumerate(arrays):
            encode_smallest(builder, Content(array.astype(np.int8)), f"out{number}", 17)
    expected = together.bytes
    taken = encode_pending(together, 17)
    assert len(taken) == 20
    assert sum(taken.values()) == pytest.approx(together.bytes)
    assert together.bytes < 0.6 * alone.bytes
    assert together.bytes == pytest.approx(expected + 140, rel=0.02)  # the decoder, without 19 Reshapes of 20


def test_a_single_level_takes_no_bits_beside_its_positions():
    rng = np.random.default_rng(0)
    arrays = {f"out{n}": np.where(rng.random((100, 100)) < 0.1, 1, 0).astype(np.uint8) for n in range(4)}
    items = {name: pool.prepare(Content(array)) for name, array in arrays.items()}
    assert [set(group) for group in pool.divide(items)] == [set(arrays)]
    builder = Builder("_")
    pool.encode(builder, items, 17)
    assert builder.bytes < 4 * 10_000 * 0.5 / 8 + 800  # of 0.47 bits of entropy and 0.1 of codes
    for value, array in zip(decoded(builder, list(items), 17), arrays.values(), strict=True):
        assert same(value, array)


def test_one_tensor_alone_takes_no_more_than_without_a_pool():
    rng = np.random.default_rng(0)
    array = np.where(rng.random((40, 50)) < 0.1, rng.choice([-1, 1], (40, 50)), 0).astype(np.int8)
    pooled, alone = Builder("_", pools=True), Builder("_")
    for builder in (pooled, alone):
        encode_smallest(builder, Content(array), "out", 17)
    encode_pending(pooled, 17)
    assert pooled.bytes <= alone.bytes


def test_large_pools_become_floats_tensor_by_tensor():
    rng = np.random.default_rng(0)
    shapes = [(800, 800), (640_000,), (30, 4)]
    arrays = [np.where(rng.random(shape) < 0.05, rng.choice([-1, 1], shape), 0).astype(np.int8) for shape in shapes]
    items = {f"out{number}": pool.prepare(Content(array, floats=True)) for number, array in enumerate(arrays)}
    builder = Builder("_")
    pool.encode(builder, items, 17)
    casts = [node.attribute[0].i for node in builder.nodes if node.op_type == "Cast"]
    assert casts.count(TensorProto.FLOAT) == len(arrays)
    for array, value in zip(arrays, decoded(builder, list(items), 17), strict=True):
        assert same(value, array.astype(np.float32))


def sparse(levels: Sequence[int], shape: tuple[int, ...], kept: float) -> pool.Pooled:
    rng = np.random.default_rng(0)
    array = np.where(rng.random(shape) < kept, rng.choice(levels, shape), 0).astype(np.int8)
    found = pool.prepare(Content(array))
    assert found is not None
    return found


def test_a_small_tensor_of_fewer_levels_joins_the_others():
    items = {"wide": sparse([-2, -1, 1, 2], (100, 100), 0.1), "narrow": sparse([-1, 1], (40, 30), 0.1)}
    assert [set(group) for group in pool.divide(items)] == [{"wide", "narrow"}]


def test_large_tensors_of_other_levels_stay_apart():
    items = {"a": sparse([-1, 1], (500, 500), 0.1), "b": sparse([-3, 3], (500, 500), 0.1)}
    assert [set(group) for group in pool.divide(items)] == [{"a"}, {"b"}]


def test_so_many_elements_are_not_decoded_together_that_memory_grows():
    items = {f"t{number}": sparse([-1, 1], (1000, 1000), 0.01) for number in range(5)}
    assert [len(group) for group in pool.divide(items)] == [4, 1]


def test_tensors_wanted_as_integers_and_as_floats_are_decoded_together():
    arrays = [sparse([-1, 1], (60, 50), 0.1).content.array for _ in range(3)]
    items = {f"out{n}": pool.prepare(Content(array, floats=n != 1)) for n, array in enumerate(arrays)}
    assert len(pool.divide(items)) == 1
    builder = Builder("_")
    pool.encode(builder, items, 17)
    for number, (array, value) in enumerate(zip(arrays, decoded(builder, list(items), 17), strict=True)):
        assert same(value, array if number == 1 else array.astype(np.float32))
