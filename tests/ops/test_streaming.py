"""Operators with state; ONNX Runtime knows them by the names of its own domain."""

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

from toolchain.graph import load_graph
from toolchain.ops import find
from toolchain.ops.streaming import causal_convolution, linear_attention

RULES = ("linear", "gated", "delta", "gated_delta")
BATCH, TIME, HEADS, SIZE, WIDTH = 2, 6, 2, 3, 4


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


@pytest.mark.parametrize("activation", ["none", "silu", "swish"])
@pytest.mark.parametrize("taps", [1, 4])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("with_state", [False, True])
def test_causal_convolution_agrees(agree, activation, taps, dilation, with_state):
    inputs = {
        "x": noise(2, 3, 5),
        "w": noise(3, 1, taps),
        "b": noise(3) if with_state else None,
        "past": noise(2, 3, (taps - 1) * dilation, seed=1) if with_state else None,
    }
    options = {"activation": activation, "dilation": dilation}
    agree("CausalConvWithState", inputs, opset=17, outputs=2, domain="com.microsoft", rtol=1e-4, **options)


def attention_inputs(rule, *, queries=HEADS, decay_size=SIZE, rates=HEADS, with_state=True):
    return {
        "q": noise(BATCH, TIME, queries * SIZE),
        "k": noise(BATCH, TIME, HEADS * SIZE, seed=1),
        "v": noise(BATCH, TIME, HEADS * WIDTH, seed=2),
        "past": noise(BATCH, HEADS, SIZE, WIDTH, seed=3) if with_state else None,
        "decay": -abs(noise(BATCH, TIME, HEADS * decay_size, seed=4)) if "gated" in rule else None,
        "beta": abs(noise(BATCH, TIME, rates, seed=5)) if "delta" in rule else None,
    }


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "shape",
    [{}, {"queries": 3 * HEADS}, {"decay_size": 1}, {"rates": 1}, {"with_state": False}],
    ids=str,
)
@pytest.mark.parametrize("scale", [0.0, 0.7])
def test_linear_attention_agrees(agree, rule, shape, scale):
    inputs = attention_inputs(rule, **shape)
    options = {"q_num_heads": shape.get("queries", HEADS), "kv_num_heads": HEADS, "update_rule": rule, "scale": scale}
    agree("LinearAttention", inputs, opset=17, outputs=2, domain="com.microsoft", rtol=1e-4, **options)


@pytest.mark.parametrize("rule", RULES)
def test_two_pieces_give_what_the_whole_sequence_gives(rule):
    inputs = {key: None if value is None else torch.from_numpy(value) for key, value in attention_inputs(rule).items()}
    options = {"q_num_heads": HEADS, "kv_num_heads": HEADS, "update_rule": rule}
    whole, last = linear_attention(*inputs.values(), **options)
    parts, state = [], inputs["past"]
    for piece in (slice(0, 2), slice(2, TIME)):
        given = {key: None if value is None else value[:, piece] for key, value in inputs.items()} | {"past": state}
        part, state = linear_attention(*given.values(), **options)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, 1), whole)
    torch.testing.assert_close(state, last)


@pytest.mark.parametrize("rule", RULES)
def test_gradients_are_those_of_the_attention(rule):
    inputs = attention_inputs(rule, queries=2 * HEADS)
    sources = {
        key: torch.from_numpy(value).double().requires_grad_() for key, value in inputs.items() if value is not None
    }

    def run(*values):
        given = inputs | dict(zip(sources, values, strict=True))
        return linear_attention(*given.values(), q_num_heads=2 * HEADS, kv_num_heads=HEADS, update_rule=rule)

    assert torch.autograd.gradcheck(run, tuple(sources.values()), fast_mode=True)


def test_gradients_are_those_of_the_causal_convolution():
    arrays = (noise(2, 3, 5), noise(3, 1, 4), noise(3), noise(2, 3, 3, seed=1))
    sources = tuple(torch.from_numpy(array).double().requires_grad_() for array in arrays)
    assert torch.autograd.gradcheck(lambda *given: causal_convolution(*given, activation="silu"), sources)


def node(operator, inputs, **attributes):
    proto = helper.make_model(
        helper.make_graph(
            [helper.make_node(operator, inputs, ["y", "state"], domain="com.microsoft", **attributes)],
            "g",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 2]) for name in inputs if name],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 2]) for name in ("y", "state")],
        ),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)],
        ir_version=8,
    )
    return load_graph(proto).nodes[0]


@pytest.mark.parametrize(
    "attributes", [{"channels_last": 1}, {"ndim": 2}, {"state_window": 2}, {"activation": "relu"}], ids=str
)
def test_other_convolutions_are_refused(attributes):
    assert find(node("CausalConvWithState", ["x", "w"])) is not None
    assert find(node("CausalConvWithState", ["x", "w"], **attributes)) is None


@pytest.mark.parametrize(
    ("inputs", "attributes"),
    [
        (["q", "k", "v"], {"update_rule": "linear", "state_window": 1}),
        (["q", "k", "v", "", "d"], {"update_rule": "linear"}),
        (["q", "k", "v", "", "", "b"], {"update_rule": "linear"}),
        (["q", "k", "v"], {}),
        (["q", "k", "v"], {"update_rule": "gated"}),
        (["q", "k", "v"], {"update_rule": "square"}),
    ],
    ids=str,
)
def test_attention_whose_inputs_do_not_fit_its_rule_is_refused(inputs, attributes):
    heads = {"q_num_heads": 1, "kv_num_heads": 1}
    assert find(node("LinearAttention", ["q", "k", "v", "", "d", "b"], **heads)) is not None
    assert find(node("LinearAttention", inputs, **heads, **attributes)) is None
