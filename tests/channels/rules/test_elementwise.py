import numpy as np
import pytest
from channel_cases import blocked, channels_of, check, model_of, parts, removable

ENDS = {"w": (6, 4, 1, 1), "b": (6,), "v": (3, 6, 1, 1)}
IMAGE = "float[N,4,5,5] x"


def between(body, opset=20, **constants):
    """A convolution, ``body`` from h to r, and a convolution that reads r."""
    return model_of(IMAGE, f"h = Conv(x, w, b) {body} y = Conv(r, v)", opset, **ENDS, **constants)


def leak_of(channels):
    return next(group.leak for group in channels.groups if group.name == "w")


@pytest.mark.parametrize(
    "body",
    [
        "r = Relu(h)",
        "r = LeakyRelu<alpha=0.3>(h)",
        "r = Tanh(h)",
        "s = Sigmoid(h) r = Mul(h, s)",
        "r = HardSwish(h)",
        "r = Gelu(h)",
        "r = com.microsoft.QuickGelu(h)",
        "s = Tanh(h) c = Cast<to=1>(s) r = Identity(c)",
        "r, mask = Dropout(h)",
        "r = Sum(h, h, h)",
        "z = Constant<value_float=0.0>() r = Max(h, z)",
        "l = Constant<value_float=-1.0>() t = Constant<value_float=6.0>() r = Clip(h, l, t)",
        "t = Constant<value_float=6.0>() d = Div(h, t) r = Mul(d, t)",
        "t = Constant<value_float=2.0>() r = Pow(h, t)",
    ],
)
def test_zero_passes(body):
    channels = check(between(body))
    assert removable(channels) == {"w": 6}
    assert leak_of(channels) == ""


@pytest.mark.parametrize(
    "body",
    [
        "r = Sigmoid(h)",
        "r = Exp(h)",
        "r = Softplus(h)",
        "o = Constant<value_float=1.0>() r = Add(h, o)",
        "o = Constant<value_float=1.0>() r = Sub(o, h)",
        "o = Constant<value_float=1.0>() t = Constant<value_float=6.0>() r = Clip(h, o, t)",
        "o = Constant<value_float=0.0>() e = Greater(h, o) f = Constant<value_float=2.0>() r = Where(e, h, f)",
    ],
)
def test_what_makes_something_of_zero_is_removed_with_what_reads_it(body):
    channels = check(between(body))
    assert removable(channels) == {"w": 6}
    assert leak_of(channels) == "'r' is not zero where it is made of zeros"


@pytest.mark.parametrize("shape", [(6, 1, 1), (1, 6, 1, 1), (6, 5, 5)])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "PRelu"])
def test_operands_along_the_channels_go_along(op, shape):
    channels = check(between(f"r = {op}(h, c)", c=shape))
    assert ("c", len(shape) - 3, [0]) in parts(channels, "w")
    assert leak_of(channels) == ""


def test_a_scalar_operand_stays():
    channels = check(between("r = Mul(h, c)", c=(1,)))
    assert [tensor for tensor, _, _ in parts(channels, "w")] == ["w", "b", "v"]


def test_a_gate_per_channel_belongs_to_the_channel():
    channels = check(
        between(
            "p = GlobalAveragePool(h) d = Conv(p, s) e = Relu(d) u = Conv(e, t) g = Sigmoid(u) r = Mul(h, g)",
            s=(2, 6, 1, 1),
            t=(6, 2, 1, 1),
        )
    )
    assert removable(channels) == {"w": 6, "s": 2}
    assert ("t", 0, [0]) in parts(channels, "w")
    assert ("s", 1, [0]) in parts(channels, "w")


def test_dividing_by_a_channel_keeps_it():
    graph = between("q = Conv(x, u) r = Div(h, q)", u=(6, 4, 1, 1))
    assert blocked(channels_of(graph))["w"].endswith("divides by it, and it is zero where weights are")


@pytest.mark.parametrize("op", ["Log", "Reciprocal"])
def test_what_is_infinite_at_zero_keeps_channels(op):
    assert "without a rule" in blocked(channels_of(between(f"r = {op}(h)")))["w"]


@pytest.mark.parametrize("per_channel", [True, False])
def test_scales_of_quantization_go_along(per_channel):
    scale = np.full(6, 0.1, np.float32) if per_channel else np.float32(0.1)
    zero = np.zeros(6, np.int8) if per_channel else np.int8(0)
    channels = check(
        between("q = QuantizeLinear<axis=1>(h, s, z) r = DequantizeLinear<axis=1>(q, s, z)", s=scale, z=zero)
    )
    assert removable(channels) == {"w": 6}
    assert leak_of(channels) == ""
    assert (("s", 0, [0]) in parts(channels, "w")) == per_channel


def test_a_quantized_weight_is_cut_as_it_lies():
    weight = np.random.default_rng(0).integers(-90, 90, (3, 6, 1, 1)).astype(np.int8)
    graph = model_of(
        IMAGE,
        "h = Conv(x, w, b) u = DequantizeLinear<axis=0>(q, s) y = Conv(h, u)",
        w=(6, 4, 1, 1),
        b=(6,),
        q=weight,
        s=(3,),
    )
    assert parts(channels_of(graph), "w") == [("w", 0, [0]), ("b", 0, [0]), ("q", 1, [0])]
