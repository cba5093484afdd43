"""Values by codes: as narrow as pays, rare ones in their places one by one."""

import numpy as np
import pytest
from encoding_cases import decoded
from hypothesis import given, settings
from hypothesis import strategies as st

from toolchain.export.builder import Builder
from toolchain.export.encodings.levels import Codes, code_width


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 200),
    size=st.sampled_from([1, 7, 800, 20_000]),
    rare=st.integers(0, 5),
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from([np.int8, np.uint8]),
)
def test_values_come_back_with_some_padding(count, size, rare, seed, dtype):
    rng = np.random.default_rng(seed)
    values = rng.choice(rng.permutation(256)[:count], size).astype(np.uint8).view(dtype)
    values[rng.integers(0, size, rare)] = 77
    codes, builder = Codes.of(values), Builder("_")
    (found,) = decoded(builder, [codes.store(builder)], 13)
    assert found.size == codes.decoded_size >= size
    assert np.array_equal(found[:size], values)
    assert codes.levels.size + np.unique(values[codes.rare]).size == np.unique(values).size


@pytest.mark.parametrize(("odd", "width"), [(1, 2), (30, 2), (3000, 3)])
def test_a_fifth_level_is_worth_a_bit_of_all_only_where_it_is_frequent(odd, width):
    values = np.random.default_rng(0).choice([-2, -1, 1, 2], 50_000).astype(np.int8)
    values[:odd] = 0
    codes = Codes.of(values)
    assert codes.width == width
    assert codes.rare.tolist() == (list(range(odd)) if width == 2 else [])


def test_few_values_have_a_code_each():
    codes = Codes.of(np.array([1, 1, 1, 1, 2, 3], np.int8))
    assert codes.levels.tolist() == [1, 2, 3]
    assert [code_width(count) for count in (1, 2, 3, 4, 5, 256)] == [0, 1, 2, 2, 3, 8]
