"""Tensors whose zeros go by units come back bit for bit, and take few bytes beyond the entropy of their structure."""

from functools import partial
from itertools import combinations
from math import comb, log2

import numpy as np
import pytest
from encoding_cases import LEVELS, decoded, same
from hypothesis import given, settings
from hypothesis import strategies as st

from toolchain.export.builder import Builder
from toolchain.export.encodings import Content, encode_pending, encode_smallest, positions, units
from toolchain.export.encodings.cuts import entropy


def blocks(rng, shape, kept, size=(4, 1)):
    outputs, inputs, *kernel = shape
    grid = rng.random((-(-outputs // size[0]), -(-inputs // size[1]), *kernel)) < kept
    return np.repeat(np.repeat(grid, size[0], 0), size[1], 1)[:outputs, :inputs]


def n_of_m(rng, shape, of, count):
    outputs, inputs, *kernel = shape
    chosen = rng.random((outputs, inputs // of, of, *kernel)).argsort(2).argsort(2) < count
    return chosen.reshape(shape)


def kernels(rng, shape, kept, library=8):
    every = np.array([[place in chosen for place in range(9)] for chosen in combinations(range(9), 4)])
    patterns = every[rng.choice(len(every), library, replace=False)]
    chosen = patterns[rng.integers(0, library, shape[:2])].reshape(*shape[:2], 3, 3)
    return chosen & (rng.random(shape[:2]) < kept)[:, :, None, None]


def groups(rng, shape, kept, count=4):
    outputs, inputs, *kernel = shape
    channels = rng.random((count, inputs)).argsort(1).argsort(1) < round(kept * inputs)
    rows = channels[rng.permutation(np.arange(outputs) % count)]
    return np.broadcast_to(rows.reshape(outputs, inputs, *[1] * len(kernel)), shape)


STRUCTURES = {
    "block4x1": blocks,
    "block1x4": partial(blocks, size=(1, 4)),
    "block4x4": partial(blocks, size=(4, 4)),
    "1:4": lambda rng, shape, _: n_of_m(rng, shape, 4, 1),
    "2:4": lambda rng, shape, _: n_of_m(rng, shape, 4, 2),
    "kernels": kernels,
    "groups": groups,
}


def with_values(rng, mask, levels, background=0):
    values = rng.standard_normal(mask.shape).astype(np.float32) if levels is None else rng.choice(levels, mask.shape)
    dtype = np.float32 if levels is None else np.uint8 if background else np.int8
    return np.where(mask, (values + background).astype(dtype), dtype(background))


def encoded(array, background=0):
    """Return a builder that holds the tensor by units, or None."""
    builder = Builder("_")
    inner = partial(encode_smallest, opset=11)
    return builder if units.encode(builder, Content(array, background), "out", inner) else None


@st.composite
def structured(draw):
    kind = draw(st.sampled_from(sorted(STRUCTURES)))
    kernel = (3, 3) if kind == "kernels" else draw(st.sampled_from([(), (3, 3), (1, 5)]))
    shape = (draw(st.integers(20, 60)), 4 * draw(st.integers(8, 20)), *kernel)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask = STRUCTURES[kind](rng, shape, draw(st.sampled_from([0.25, 0.5])))
    if draw(st.booleans()):  # the one unit that an exact ratio keeps in part
        mask = mask.copy()
        mask[np.unravel_index(draw(st.integers(0, mask.size - 1)), shape)] ^= True
    order = draw(st.permutations(range(2)))  # whichever comes first, outputs or inputs
    mask = mask.transpose(*order, *range(2, mask.ndim))
    levels = draw(st.sampled_from([None, *LEVELS[:5]]))
    background = 64 if levels is not None and draw(st.booleans()) else 0
    return with_values(rng, mask, levels, background), background


@settings(max_examples=60, deadline=None)
@given(case=structured(), opset=st.sampled_from([11, 13, 17, 21]))
def test_structured_tensors_come_back_bit_for_bit_and_fold(case, opset):
    array, background = case
    builder = encoded(array, background)
    if builder is not None:
        assert same(decoded(builder, ["out"], opset)[0], array)


@settings(max_examples=20, deadline=None)
@given(cases=st.lists(structured(), min_size=2, max_size=4), opset=st.sampled_from([11, 17]))
def test_structured_tensors_come_back_from_a_pool(cases, opset):
    builder = Builder("_", pools=True)
    for number, (array, background) in enumerate(cases):
        encode_smallest(builder, Content(array, background), f"out{number}", opset)
    encode_pending(builder, opset)
    names = [f"out{number}" for number in range(len(cases))]
    for value, (array, _) in zip(decoded(builder, names, opset), cases, strict=True):
        assert same(value, array)


# Bits of the positions of the structures above in a tensor of 128 x 128 x 3 x 3 weights, by the part that is kept.
KERNELS = 128 * 128
BOUNDS = {
    "block4x1": lambda kept: KERNELS * 9 / 4 * entropy(kept),
    "block1x4": lambda kept: KERNELS * 9 / 4 * entropy(kept),
    "block4x4": lambda kept: KERNELS * 9 / 16 * entropy(kept),
    "1:4": lambda _: KERNELS * 9 / 4 * 2,
    "2:4": lambda _: KERNELS * 9 / 4 * log2(6),
    "kernels": lambda kept: KERNELS * (entropy(kept) + kept * 3),
    "groups": lambda kept: 4 * log2(comb(128, round(kept * 128))) + 128 * 2,
}


@pytest.mark.parametrize("levels", [LEVELS[1], None], ids=["2bit", "float"])
@pytest.mark.parametrize("kept", [1 / 8, 1 / 2])
@pytest.mark.parametrize("kind", sorted(STRUCTURES))
def test_positions_take_what_the_structure_tells(kind, kept, levels):
    rng = np.random.default_rng(0)
    mask = STRUCTURES[kind](rng, (128, 128, 3, 3), kept)
    array = with_values(rng, mask, levels)
    builder = Builder("_")
    encode_smallest(builder, Content(array), "out", 17)
    assert same(decoded(builder, ["out"], 17)[0], array)
    values = mask.sum() * (2 if levels else 32)
    assert builder.bytes < 1.05 * (BOUNDS[kind](kept) + values) / 8 + 1500  # of nodes


@pytest.mark.parametrize("kind", sorted(STRUCTURES))
def test_one_unit_kept_in_part_costs_no_bit_of_every_other(kind):
    rng = np.random.default_rng(0)
    array = with_values(rng, STRUCTURES[kind](rng, (128, 128, 3, 3), 1 / 4), LEVELS[1])
    odd = array.copy()
    odd[tuple(np.argwhere(array)[len(np.argwhere(array)) // 2])] = 0
    whole, part = (Builder("_") for _ in range(2))
    encode_smallest(whole, Content(array), "out", 17)
    encode_smallest(part, Content(odd), "out", 17)
    assert part.bytes < whole.bytes + 800
    assert same(decoded(part, ["out"], 17)[0], odd)


def test_single_weights_without_structure_are_left_to_positions():
    rng = np.random.default_rng(0)
    for kept in (1 / 2, 1 / 12, 1 / 100):
        assert encoded(with_values(rng, rng.random((128, 128, 3, 3)) < kept, LEVELS[1])) is None


def test_dense_empty_and_small_tensors_have_no_units():
    rng = np.random.default_rng(0)
    for array in (np.ones((64, 64), np.int8), np.zeros((64, 64), np.int8), np.zeros((0, 3), np.int8)):
        assert encoded(array) is None
    assert encoded(with_values(rng, blocks(rng, (16, 16), 1 / 4), LEVELS[1])) is None


def test_zeros_of_a_stack_of_matrices_are_found_as_well():
    rng = np.random.default_rng(0)
    mask = np.stack([blocks(rng, (128, 256), 1 / 8) for _ in range(2)])
    array = with_values(rng, mask, LEVELS[0])
    single, found = Builder("_"), encoded(array)
    positions.encode(single, Content(array), "out")
    assert found.bytes < 0.6 * single.bytes
    assert same(decoded(found, ["out"], 17)[0], array)
