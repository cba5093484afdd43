"""Operators on quantized tensors give ONNX Runtime's levels, every one of them."""

import numpy as np
import pytest
import torch

from toolchain.ops import qlinear

KINDS = ["uint8", "int8"]
GRIDS = {  # scales and zero points of both inputs and the output, zero points counted from the lowest level
    "one grid": (0.02, 7, 0.02, 7, 0.02, 7),
    "halves everywhere": (0.02, 12, 0.02, 130, 0.04, 99),
    "sixths, which no float holds": (0.01, 200, 0.03, 63, 0.06, 31),
    "any": (0.0173, 255, 0.0911, 0, 0.0507, 128),
}


@pytest.fixture
def exact(agree):
    """Return a function that asserts that com.microsoft's operator gives ONNX Runtime's levels."""

    def check(operator, inputs, **attributes):
        arrays = {name: None if value is None else np.asarray(value) for name, value in inputs.items()}
        return agree(operator, arrays, domain="com.microsoft", rtol=0, atol=0, **attributes)

    return check


def levels(kind, *steps):
    """Return levels counted from the lowest one."""
    return (np.array(steps if len(steps) != 1 else steps[0]) + np.iinfo(kind).min).astype(kind)


def some(kind, *shape, seed=0):
    return levels(kind, np.random.default_rng(seed).integers(0, 256, shape))


def unary(kind, x, x_scale=0.05, x_zero=128, y_scale=0.0071, y_zero=3):
    grid = {"sx": np.float32(x_scale), "zx": levels(kind, x_zero)}
    return {"x": x, **grid, "sy": np.float32(y_scale), "zy": levels(kind, y_zero)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("operator", ["QLinearAdd", "QLinearMul"])
def test_every_pair_of_levels_is_combined_as_onnx_runtime_does(exact, operator, grid, kind):
    sa, za, sb, zb, sc, zc = GRIDS[grid]
    inputs = {
        "a": levels(kind, np.repeat(np.arange(256), 256)),
        "sa": np.float32(sa),
        "za": levels(kind, za),
        "b": levels(kind, np.tile(np.arange(256), 256)),
        "sb": np.float32(sb),
        "zb": levels(kind, zb),
        "sc": np.float32(sc),
        "zc": levels(kind, zc),
    }
    exact(operator, inputs)


@pytest.mark.parametrize("operator", ["QLinearAdd", "QLinearMul"])
def test_operands_broadcast_and_the_last_zero_point_may_be_left_out(exact, operator):
    scale, zero = np.float32(0.03), np.int8(4)
    a, b = some("int8", 2, 3, 4), some("int8", 3, 1, seed=1)
    exact(operator, {"a": a, "sa": scale, "za": zero, "b": b, "sb": scale, "zb": zero, "sc": scale})


@pytest.mark.parametrize("kind", KINDS)
def test_sigmoid_and_leaky_relu_hold_for_every_level(exact, kind):
    x = levels(kind, np.arange(256))
    exact("QLinearSigmoid", unary(kind, x, y_scale=1 / 256, y_zero=0))
    exact("QLinearLeakyRelu", unary(kind, x))
    exact("QLinearLeakyRelu", unary(kind, x), alpha=0.3)


@pytest.mark.parametrize("kind", KINDS)
def test_concat_and_where_put_levels_on_one_grid(exact, kind):
    first = {"x0": some(kind, 2, 5), "s0": np.float32(0.05), "z0": levels(kind, 128)}
    second = {"x1": some(kind, 2, 3, seed=1), "s1": np.float32(0.021), "z1": levels(kind, 5)}
    exact("QLinearConcat", {"sy": np.float32(0.05), "zy": levels(kind, 128), **first, **second}, axis=1)
    second["x1"] = some(kind, 5, seed=2)
    condition = np.random.default_rng(0).random((2, 5)) > 0.5
    exact("QLinearWhere", {"c": condition, **first, **second, "sz": np.float32(0.04), "zz": levels(kind, 50)})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attributes", ["opset=13", "axis=1, opset=13", "opset=12", "axis=2, opset=12"])
@pytest.mark.parametrize("scale", [1 / 256, 0.003])
def test_softmax_agrees_along_an_axis_and_over_flattened_ones(agree_on_text, kind, attributes, scale):
    signature = f"({kind}[3,4,10] x, float sx, {kind} zx, float sy, {kind} zy) => ({kind}[3,4,10] y)"
    text = (
        f'<ir_version: 8, opset_import: ["" : 13, "com.microsoft" : 1]> g {signature} '
        f"{{ y = com.microsoft.QLinearSoftmax<{attributes}>(x, sx, zx, sy, zy) }}"
    )
    inputs = unary(kind, some(kind, 3, 4, 10), y_scale=scale, y_zero=0)
    agree_on_text(text, {name: np.asarray(value) for name, value in inputs.items()}, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("y_scale", [0.05, 0.031])
@pytest.mark.parametrize("last", [0, 1])
def test_global_average_pooling_agrees(exact, kind, y_scale, last):
    x = some(kind, 2, 4, 4, 3) if last else some(kind, 2, 3, 4, 4)
    exact("QLinearGlobalAveragePool", unary(kind, x, y_scale=y_scale), channels_last=last)


WINDOWS = {
    "halves": {"kernel_shape": [2, 2], "strides": [2, 2]},
    "different pads": {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1]},
    "padding counted": {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1, "strides": [2, 2]},
    "ceil": {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    "same size": {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER"},
    "channels last": {"kernel_shape": [2, 2], "channels_last": 1},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("y_scale", [0.05, 0.031])
@pytest.mark.parametrize("window", WINDOWS)
def test_average_pooling_agrees(exact, kind, y_scale, window):
    exact("QLinearAveragePool", unary(kind, some(kind, 2, 3, 8, 9), y_scale=y_scale), **WINDOWS[window])


def test_the_gradient_of_a_sum_is_the_ratio_of_the_scales_where_it_does_not_saturate():
    a = torch.tensor([10.0, 200.0, 255.0], requires_grad=True)  # levels of uint8, held in floats under autograd
    b = torch.tensor([30.0, 20.0, 255.0])
    zero = torch.tensor(0, dtype=torch.uint8)
    scales = torch.tensor(0.04), torch.tensor(0.02), torch.tensor(0.05)
    c = qlinear.qlinear_add(a, scales[0], zero, b, scales[1], zero, scales[2], zero)
    assert c.tolist() == [20.0, 168.0, 255.0]
    c.sum().backward()
    torch.testing.assert_close(a.grad, torch.tensor([0.8, 0.8, 0.0]))


def test_levels_held_in_floats_need_a_zero_point_that_names_their_type():
    scale = torch.tensor(0.1)
    with pytest.raises(ValueError, match="zero point"):
        qlinear.qlinear_sigmoid(torch.ones(2, requires_grad=True), scale, None, scale)
