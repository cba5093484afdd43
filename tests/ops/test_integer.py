"""Products of integers are exact, and quantized ones give ONNX Runtime's levels, every one of them."""

import numpy as np
import pytest
import torch

from toolchain.ops import integer

KINDS = [("uint8", "uint8"), ("uint8", "int8"), ("int8", "int8")]
ANY_KINDS = [*KINDS, ("int8", "uint8")]


@pytest.fixture
def exact(agree):
    """Return a function that asserts that an operator gives ONNX Runtime's integers."""

    def check(operator, inputs, **attributes):
        arrays = {name: None if value is None else np.asarray(value) for name, value in inputs.items()}
        return agree(operator, arrays, rtol=0, atol=0, **attributes)

    return check


def levels(kind, *shape, seed=0):
    steps = np.random.default_rng(seed).integers(0, 256, shape)
    return (steps + np.iinfo(kind).min).astype(kind)


def scales(*shape, seed=0):
    return (np.random.default_rng(seed).random(shape) * 0.01 + 0.001).astype(np.float32)


@pytest.mark.parametrize(("x_kind", "w_kind"), ANY_KINDS)
@pytest.mark.parametrize("channels", [4, 256])
def test_integer_convolution_is_exact(exact, x_kind, w_kind, channels):
    inputs = {
        "x": levels(x_kind, 2, 2 * channels, 9, 8),
        "w": levels(w_kind, 6, channels, 3, 3, seed=1),
        "zx": levels(x_kind, seed=2),
        "zw": levels(w_kind, seed=3),
    }
    exact("ConvInteger", inputs, group=2, pads=[1, 0, 2, 1], strides=[2, 1], dilations=[1, 2])
    exact("ConvInteger", {"x": inputs["x"], "w": inputs["w"], "zx": inputs["zx"]}, group=2, auto_pad="SAME_LOWER")


def test_sums_beyond_what_float32_holds_are_exact():
    x, w = torch.full((1, 300, 3, 3), 255, dtype=torch.uint8), torch.full((1, 300, 3, 3), 255, dtype=torch.uint8)
    w[0, 0, 0, 0] = 254
    total = 300 * 9 * 255 * 255 - 255
    assert total > integer.EXACT_FLOAT32
    assert integer.conv_integer(x, w).item() == total
    assert integer.mat_mul_integer(x.reshape(1, -1), w.reshape(-1, 1)).item() == total


def test_a_filter_may_have_a_zero_point_of_its_own_for_every_channel():
    x, w = levels("uint8", 1, 3, 5, 5), levels("int8", 4, 3, 2, 2, seed=1)
    zeros = levels("int8", 4, seed=2)
    y = integer.conv_integer(*map(torch.from_numpy, (x, w)), None, torch.from_numpy(zeros))
    for channel, zero in enumerate(zeros):
        alone = integer.conv_integer(torch.from_numpy(x), torch.from_numpy(w[channel, None]), None, torch.tensor(zero))
        torch.testing.assert_close(y[:, channel, None], alone, rtol=0, atol=0)


@pytest.mark.parametrize(("a_kind", "b_kind"), ANY_KINDS)
def test_integer_matrix_product_is_exact(exact, a_kind, b_kind):
    a, b = levels(a_kind, 2, 5, 700), levels(b_kind, 700, 9, seed=1)
    exact("MatMulInteger", {"a": a, "b": b})
    exact("MatMulInteger", {"a": a, "b": b, "za": levels(a_kind, seed=2), "zb": levels(b_kind, seed=3)})
    exact("MatMulInteger", {"a": a[0], "b": b, "za": levels(a_kind, seed=2), "zb": levels(b_kind, 9, seed=3)})


def test_rows_of_the_first_factor_may_have_zero_points_of_their_own():
    a, b = torch.from_numpy(levels("uint8", 2, 3, 4)), torch.from_numpy(levels("uint8", 4, 5, seed=1))
    zeros = torch.tensor([7, 130, 255], dtype=torch.uint8)
    expected = (a.long() - zeros.long()[:, None]) @ b.long()
    for shaped in (zeros, zeros[:, None]):
        assert torch.equal(integer.mat_mul_integer(a, b, shaped).long(), expected)


@pytest.mark.parametrize(("x_kind", "w_kind"), KINDS)
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("domain", ["", "com.microsoft"])
def test_quantized_convolution_agrees(exact, x_kind, w_kind, per_channel, domain):
    last = domain != ""
    channels = (12,) if per_channel else ()
    inputs = {
        "x": levels(x_kind, 2, 9, 8, 8) if last else levels(x_kind, 2, 8, 9, 8),
        "sx": scales(),
        "zx": levels(x_kind, seed=1),
        "w": levels(w_kind, 12, 4, 3, 3, seed=2),
        "sw": scales(*channels, seed=1),
        "zw": np.full(channels, levels(w_kind, seed=3)),
        "sy": scales(seed=2) * 5,
        "zy": levels(x_kind, seed=4),
        "b": np.random.default_rng(5).integers(-(10**5), 10**5, 12).astype(np.int32),
    }
    attributes = {"channels_last": 1} if last else {}
    exact("QLinearConv", inputs, domain=domain, group=2, pads=[1, 1, 0, 0], **attributes)
    del inputs["b"]
    exact("QLinearConv", inputs, domain=domain, group=2, strides=[2, 2], **attributes)


@pytest.mark.parametrize(("a_kind", "b_kind"), KINDS)
@pytest.mark.parametrize("per_column", [False, True])
def test_quantized_matrix_product_agrees(exact, a_kind, b_kind, per_column):
    columns = (90,) if per_column else ()
    inputs = {
        "a": levels(a_kind, 50, 70),
        "sa": scales(),
        "za": levels(a_kind, seed=1),
        "b": levels(b_kind, 70, 90, seed=2),
        "sb": scales(*columns, seed=1),
        "zb": levels(b_kind, *columns, seed=3),
        "sy": scales(seed=2) * 5,
        "zy": levels(a_kind, seed=4),
    }
    exact("QLinearMatMul", inputs)


@pytest.mark.parametrize(("a_kind", "b_kind"), KINDS)
@pytest.mark.parametrize("per_column", [False, True])
def test_gemm_of_quantized_tensors_agrees(exact, a_kind, b_kind, per_column):
    columns = (9,) if per_column else ()
    inputs = {
        "a": levels(a_kind, 70, 50),
        "sa": scales(),
        "za": levels(a_kind, seed=1),
        "b": levels(b_kind, 9, 70, seed=2),
        "sb": scales(*columns, seed=1),
        "zb": levels(b_kind, *columns, seed=3),
        "c": np.random.default_rng(4).integers(-(10**4), 10**4, (50, 1)).astype(np.int32),
    }
    layout = {"transA": 1, "transB": 1, "domain": "com.microsoft"}
    exact("QGemm", inputs, alpha=0.7, **layout)
    exact("QGemm", {**inputs, "c": None, "sy": scales(seed=2) * 5, "zy": levels(a_kind, seed=4)}, **layout)


@pytest.mark.parametrize(("a_kind", "b_kind"), KINDS)
@pytest.mark.parametrize("per_column", [False, True])
def test_matrix_products_with_float_results_agree(exact, a_kind, b_kind, per_column):
    columns = (9,) if per_column else ()
    b, bias = levels(b_kind, 70, 9, seed=2), scales(9, seed=3)
    sb, zb = scales(*columns, seed=1), levels(b_kind, *columns, seed=3)
    inputs = {"a": levels(a_kind, 5, 70), "b": b, "sa": scales(), "sb": sb, "za": levels(a_kind, seed=1), "zb": zb}
    exact("MatMulIntegerToFloat", {**inputs, "bias": bias}, domain="com.microsoft")
    a = np.random.default_rng(0).standard_normal((50, 70)).astype(np.float32)
    exact("DynamicQuantizeMatMul", {"a": a, "b": b, "sb": sb, "zb": zb, "bias": bias}, domain="com.microsoft")
    exact("DynamicQuantizeMatMul", {"a": a * 0, "b": b, "sb": sb}, domain="com.microsoft")


def test_a_quantized_convolution_passes_the_gradient_of_a_convolution():
    x = torch.randint(0, 256, (1, 3, 6, 6)).float().requires_grad_()  # uint8 levels, held in floats under autograd
    w = torch.randint(-128, 128, (4, 3, 3, 3), dtype=torch.int8)
    wide = (torch.tensor(0.02), torch.tensor(128, dtype=torch.uint8))
    own = (torch.tensor(0.01), torch.tensor(0, dtype=torch.int8))
    y = integer.qlinear_conv(x, *wide, w, *own, torch.tensor(4.0), torch.tensor(128, dtype=torch.uint8))
    assert torch.equal(y, y.round())
    y.sum().backward()
    leaf = x.detach().clone().requires_grad_()
    torch.nn.functional.conv2d(leaf * 0.02, w.float() * 0.01 / 4.0).sum().backward()
    torch.testing.assert_close(x.grad, leaf.grad)
