"""Arithmetic, order and reductions of unsigned integers, against numpy's wrap-around."""

import numpy as np
import pytest
import torch

from toolchain.ops import arithmetic, cumulative, logic, reduction

KINDS = ["uint16", "uint32", "uint64"]


def pairs(kind):
    """Return two arrays of all combinations of small, large and random values."""
    top = int(np.iinfo(kind).max)
    rng = np.random.default_rng(0)
    values = [0, 1, 2, 3, 7, top // 2, top // 2 + 1, top // 2 + 2, top - 1, top]
    values += rng.integers(0, top, 12, dtype=kind, endpoint=True).tolist()
    return combined(values, values, kind)


def combined(first, second, kind):
    return np.array(np.meshgrid(np.array(first, kind), np.array(second, kind))).reshape(2, -1)


def tensors(*arrays):
    return [torch.from_numpy(array.copy()) for array in arrays]


BINARY = {
    "Add": (arithmetic.add, np.add),
    "Sub": (arithmetic.sub, np.subtract),
    "Mul": (arithmetic.mul, np.multiply),
    "Max": (arithmetic.max_of, np.maximum),
    "Min": (arithmetic.min_of, np.minimum),
    "Greater": (logic.greater, np.greater),
    "GreaterOrEqual": (logic.greater_or_equal, np.greater_equal),
    "Less": (logic.less, np.less),
    "LessOrEqual": (logic.less_or_equal, np.less_equal),
    "Equal": (logic.equal, np.equal),
    "BitwiseXor": (logic.bitwise_xor, np.bitwise_xor),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("operator", BINARY)
def test_operators_of_two_tensors_agree_with_numpy(operator, kind):
    ours, numpys = BINARY[operator]
    a, b = pairs(kind)
    result = ours(*tensors(a, b)).numpy()
    assert result.dtype == numpys(a, b).dtype
    np.testing.assert_array_equal(result, numpys(a, b))


@pytest.mark.parametrize("kind", KINDS)
def test_quotients_and_remainders_agree_with_numpy(kind):
    a, b = pairs(kind)
    a, b = a[b > 0], b[b > 0]
    np.testing.assert_array_equal(arithmetic.div(*tensors(a, b)).numpy(), a // b)
    for fmod in (0, 1):
        np.testing.assert_array_equal(arithmetic.mod(*tensors(a, b), fmod=fmod).numpy(), a % b)


@pytest.mark.parametrize("kind", KINDS)
def test_operators_of_one_tensor_agree_with_numpy(kind):
    a = pairs(kind)[0]
    (x,) = tensors(a)
    np.testing.assert_array_equal(arithmetic.absolute(x).numpy(), a)
    np.testing.assert_array_equal(arithmetic.sign(x).numpy(), np.sign(a))
    np.testing.assert_array_equal(logic.bitwise_not(x).numpy(), ~a)
    np.testing.assert_array_equal(arithmetic.power(x, torch.tensor(3)).numpy(), a * a * a)
    np.testing.assert_array_equal(cumulative.cum_sum(x, [0]).numpy(), np.cumsum(a, dtype=kind))


@pytest.mark.parametrize("kind", [*KINDS, "uint8", "int8", "int32", "int64"])
@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
def test_bits_move_out_and_the_sign_moves_in(kind, direction):
    limits = np.iinfo(kind)
    bits = limits.bits
    values = [limits.min, limits.max, limits.max // 3, 1, 5]
    shifts = [0, 1, bits // 2, bits - 1, bits, limits.max]
    a, b = combined(values, shifts, kind)
    expected = [
        (int(x) << min(int(y), 200)) % 2**bits if direction == "LEFT" else int(x) >> int(y)
        for x, y in zip(a, b, strict=True)
    ]
    got = logic.bit_shift(*tensors(a, b), direction=direction).numpy()
    assert [int(value) % 2**bits for value in got] == [value % 2**bits for value in expected]


REDUCTIONS = {
    "ReduceSum": np.add.reduce,
    "ReduceProd": np.multiply.reduce,
    "ReduceMax": np.maximum.reduce,
    "ReduceMin": np.minimum.reduce,
    "ReduceL1": np.add.reduce,
    "ReduceSumSquare": lambda x, axis, dtype: np.add.reduce(x * x, axis=axis, dtype=dtype),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("operator", REDUCTIONS)
def test_reductions_agree_with_numpy(operator, kind):
    a = pairs(kind)[0].reshape(22, 22)
    got = reduction.REDUCTIONS[operator][1](*tensors(a), [1], keepdims=0).numpy()
    np.testing.assert_array_equal(got, REDUCTIONS[operator](a, axis=1, dtype=kind))


@pytest.mark.parametrize("kind", KINDS)
def test_a_mean_is_rounded_towards_zero(kind):
    top = int(np.iinfo(kind).max) // 4
    a = np.array([[top, top, top - 1, 0], [1, 2, 3, 5]], dtype=kind)
    got = reduction.REDUCTIONS["ReduceMean"][1](*tensors(a), [1], keepdims=0).numpy()
    assert got.tolist() == [(3 * top - 1) // 4, 2]


def test_an_exclusive_running_sum_does_not_round_what_it_leaves_out():
    x = torch.tensor([1e8, 1.0, 2.0, torch.inf])
    assert cumulative.cum_sum(x, [0], exclusive=1).tolist() == [0.0, 1e8, 1e8, 1e8]
    assert cumulative.cum_sum(x[:3], [0], exclusive=1, reverse=1).tolist() == [3.0, 2.0, 0.0]
    assert cumulative.cum_sum(x[:0], [0], exclusive=1).shape == (0,)


@pytest.mark.parametrize("keepdims", [0, 1])
def test_a_product_over_axes_counted_from_both_ends_agrees(agree, keepdims):
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    agree("ReduceProd", {"x": x}, axes=[-3, 2], keepdims=keepdims)


def test_logarithms_of_integers_stay_integers(agree):
    x = np.random.default_rng(0).integers(1, 9, (3, 7)).astype(np.int32)
    agree("ReduceLogSum", {"x": x}, axes=[1])
    agree("ReduceLogSumExp", {"x": x}, axes=[1])
