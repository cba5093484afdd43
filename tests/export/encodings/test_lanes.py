import numpy as np
import pytest
from encoding_cases import decoded
from hypothesis import given, settings
from hypothesis import strategies as st

from toolchain.export.builder import Builder
from toolchain.export.encodings import lanes


def packed(codes):
    width = 8 // len(codes)
    return sum(row.astype(np.int64) << width * lane for lane, row in enumerate(codes)).astype(np.uint8)


@st.composite
def planes(draw):
    count = draw(st.sampled_from([2, 4, 8]))
    most = 2 ** (8 // count)
    background = draw(st.integers(0, most - 1))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (count, 4 * draw(st.integers(1, 300)))
    kept = rng.random(shape) < draw(st.sampled_from([0.003, 0.03, 0.15]))
    kept[rng.random(count) < draw(st.sampled_from([0.0, 0.5]))] = False  # some lanes hold nothing
    kept[:, [0, -1]] |= draw(st.booleans())
    return np.where(kept, rng.integers(0, most, shape), background).astype(np.uint8), background


@settings(max_examples=150, deadline=None)
@given(case=planes(), opset=st.sampled_from([16, 18, 21]))
def test_lanes_come_back_bit_for_bit_and_fold(case, opset):
    codes, background = case
    builder = Builder("_")
    shape = (2, codes.shape[1] // 4, 2)
    if lanes.encode(builder, codes, background, shape, "out"):
        (found,) = decoded(builder, ["out"], opset)
        assert found.dtype == np.uint8
        assert np.array_equal(found, packed(codes).reshape(shape))


@pytest.mark.parametrize("kept", [0.0, 0.9])
def test_all_background_and_a_bitmask_are_left_to_others(kept):
    rng = np.random.default_rng(0)
    codes = np.where(rng.random((4, 200)) < kept, rng.integers(0, 4, (4, 200)), 2).astype(np.uint8)
    assert not lanes.encode(Builder("_"), codes, 2, (200,), "out")


def test_no_value_has_an_element_per_code():
    rng = np.random.default_rng(0)
    codes = np.where(rng.random((4, 50_000)) < 0.01, rng.integers(0, 4, (4, 50_000)), 2).astype(np.uint8)
    builder = Builder("_")
    assert lanes.encode(builder, codes, 2, (50_000,), "out")
    names = [name for node in builder.nodes for name in node.output]
    sizes = dict(zip(names, map(np.size, decoded(builder, names, 17)), strict=True))
    assert max(sizes.values()) == 50_000
    assert sum(size > 10_000 for size in sizes.values()) == 3
