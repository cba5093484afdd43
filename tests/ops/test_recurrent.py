"""Recurrent layers and their cells; ONNX Runtime has no double precision and no ``layout`` to compare with."""

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from toolchain.graph import load_graph
from toolchain.module import OnnxModule
from toolchain.ops import find
from toolchain.ops.cells import FUNCTIONS
from toolchain.ops.recurrent import gru, lstm, rnn

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
FUNCTIONS_OF = {"LSTM": 3, "GRU": 2, "RNN": 1}
RUN = {"LSTM": lstm, "GRU": gru, "RNN": rnn}
DIRECTIONS = ("forward", "reverse", "bidirectional")
TIME, BATCH, SIZE, HIDDEN = 5, 3, 4, 6

operators = pytest.mark.parametrize("operator", GATES)
directions = pytest.mark.parametrize("direction", DIRECTIONS)


def tensors(operator, direction="forward", seed=0, batch=BATCH):
    rng = np.random.default_rng(seed)
    count, gates = 1 + (direction == "bidirectional"), GATES[operator]

    def normal(*shape):
        return rng.normal(0, 0.3, shape).astype(np.float32)

    found = {
        "x": normal(TIME, batch, SIZE),
        "w": normal(count, gates * HIDDEN, SIZE),
        "r": normal(count, gates * HIDDEN, HIDDEN),
        "b": normal(count, 2 * gates * HIDDEN),
        "lens": None,
        "h": normal(count, batch, HIDDEN),
    }
    return found | {"c": normal(count, batch, HIDDEN), "p": None} if operator == "LSTM" else found


def compare(agree, operator, inputs, direction="forward", opset=14, **attributes):
    outputs = 3 if operator == "LSTM" else 2
    return agree(
        operator,
        inputs,
        opset=opset,
        outputs=outputs,
        constants=("w", "r"),
        rtol=1e-3,
        hidden_size=HIDDEN,
        direction=direction,
        **attributes,
    )


@operators
@directions
@pytest.mark.parametrize("opset", [7, 14])
def test_layer_agrees(agree, operator, direction, opset):
    compare(agree, operator, tensors(operator, direction), direction, opset)


@operators
@directions
def test_layer_without_bias_and_state_agrees(agree, operator, direction):
    inputs = tensors(operator, direction) | {"b": None, "h": None}
    compare(agree, operator, inputs | {"c": None} if operator == "LSTM" else inputs, direction)


@operators
@directions
@pytest.mark.parametrize("lengths", [[5, 2, 4], [0, 3, 1], [0, 0, 0]], ids=str)
def test_sequences_of_different_lengths_agree(agree, operator, direction, lengths):
    inputs = tensors(operator, direction) | {"lens": np.array(lengths, np.int32)}
    compare(agree, operator, inputs, direction)


@operators
@pytest.mark.parametrize("name", FUNCTIONS)
def test_activation_agrees(agree, operator, name):
    names = [name] * FUNCTIONS_OF[operator]
    # The clip keeps layers whose functions have no bound from overflowing, as Softplus does earlier in ONNX Runtime.
    compare(agree, operator, tensors(operator), activations=names, clip=2.0)


@operators
def test_parameters_of_activations_go_to_those_that_take_them_in_order(agree, operator):
    count = 2 * FUNCTIONS_OF[operator]
    names = ["Tanh", "LeakyRelu", "HardSigmoid", "ScaledTanh", "Elu", "Affine"][-count:]
    options = {"activation_alpha": [0.3, 0.6, 0.4], "activation_beta": [0.7]}
    inputs = tensors(operator, "bidirectional")
    compare(agree, operator, inputs, "bidirectional", activations=names, **options)


@operators
@directions
def test_clip_agrees(agree, operator, direction):
    compare(agree, operator, tensors(operator, direction), direction, clip=0.3)


@directions
@pytest.mark.parametrize("options", [{}, {"input_forget": 1}, {"clip": 0.4}], ids=str)
def test_peepholes_agree(agree, direction, options):
    inputs = tensors("LSTM", direction)
    peepholes = np.random.default_rng(1).normal(size=(len(inputs["w"]), 3 * HIDDEN)).astype(np.float32)
    compare(agree, "LSTM", inputs | {"p": peepholes}, direction, **options)


def test_forget_gate_coupled_to_the_input_gate_agrees(agree):
    compare(agree, "LSTM", tensors("LSTM"), input_forget=1)


@directions
@pytest.mark.parametrize("lengths", [None, [5, 0, 3]], ids=["fused", "stepwise"])
def test_reset_after_the_product_agrees(agree, direction, lengths):
    inputs = tensors("GRU", direction)
    inputs["lens"] = None if lengths is None else np.array(lengths, np.int32)
    compare(agree, "GRU", inputs, direction, linear_before_reset=1)


@operators
@directions
@pytest.mark.parametrize("lengths", [None, [5, 1, 3]], ids=["fused", "stepwise"])
def test_batch_may_come_first(operator, direction, lengths):
    arrays = {
        key: None if value is None else torch.from_numpy(value) for key, value in tensors(operator, direction).items()
    }
    plain = RUN[operator](*(arrays | {"lens": lengths}).values(), direction=direction)
    for key in {"x", "h", "c"} & arrays.keys():
        arrays[key] = arrays[key].transpose(0, 1)
    y, *finals = RUN[operator](*(arrays | {"lens": lengths}).values(), direction=direction, layout=1)
    torch.testing.assert_close(y, plain[0].permute(2, 0, 1, 3))
    for final, expected in zip(finals, plain[1:], strict=True):
        torch.testing.assert_close(final, expected.transpose(0, 1))


@operators
@directions
@pytest.mark.parametrize("options", [{}, {"clip": 2.0}, {"lens": [1, 4]}], ids=["usual", "clip", "lengths"])
def test_gradients_are_those_of_the_layer(operator, direction, options):
    if operator == "GRU":
        options = options | {"linear_before_reset": 1}
    arrays = tensors(operator, direction, batch=2)
    lengths = options.get("lens")
    keywords = {key: value for key, value in options.items() if key != "lens"}
    sources = {
        key: torch.from_numpy(value).double().requires_grad_() for key, value in arrays.items() if value is not None
    }

    def run(*values):
        given = arrays | dict(zip(sources, values, strict=True)) | {"lens": lengths}
        return RUN[operator](*given.values(), direction=direction, **keywords)

    assert torch.autograd.gradcheck(run, tuple(sources.values()), fast_mode=True)


@operators
def test_fused_kernel_and_steps_give_the_same(operator):
    arrays = {key: None if value is None else torch.from_numpy(value) for key, value in tensors(operator).items()}
    keywords = {"linear_before_reset": 1} if operator == "GRU" else {}
    fused = RUN[operator](*(arrays | {"lens": [TIME] * BATCH}).values(), **keywords)
    steps = RUN[operator](*arrays.values(), clip=1e9, **keywords)
    for one, other in zip(fused, steps, strict=True):
        torch.testing.assert_close(one, other)


@operators
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_results_have_the_type_of_the_input(operator, dtype):
    arrays = [None if value is None else torch.from_numpy(value) for value in tensors(operator).values()]
    for options in ({}, {"clip": 5.0}):
        expected = RUN[operator](*arrays, **options)
        results = RUN[operator](*(None if value is None else value.to(dtype) for value in arrays), **options)
        for result, value in zip(results, expected, strict=True):
            assert result.dtype == dtype
            torch.testing.assert_close(result.float(), value, atol=0.05, rtol=0.05)


def layer(operator, outputs, inputs=("x", "w", "r", "b"), direction="forward", **attributes):
    """Return a model of one layer, all of whose inputs but x are constant, and x; ``outputs`` are shapes by name."""
    arrays = tensors(operator) | {"p": np.full((1, 3 * HIDDEN), 0.5, np.float32)}
    node = helper.make_node(operator, inputs, outputs, hidden_size=HIDDEN, direction=direction, **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [TIME, BATCH, SIZE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items() if shape],
        [numpy_helper.from_array(arrays[key], key) for key in inputs[1:] if key],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8), {"x": arrays["x"]}


@operators
def test_only_the_last_state_may_be_asked_for(operator):
    proto, feed = layer(operator, {"": None, "last": [1, BATCH, HIDDEN]})
    expected = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, feed)[0]
    got = OnnxModule(load_graph(proto)).eval()(feed)["last"].detach().numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("operator", "inputs"),
    [("LSTM", "xwrb_hcp"), ("LSTM", "xwrb"), ("GRU", "xwrb_h"), ("RNN", "xwrb_h")],
)
def test_weights_biases_and_peepholes_train_and_the_first_state_does_not(operator, inputs):
    inputs, trained = [name.strip("_") for name in inputs], set(inputs) & set("wrbp")
    proto, feed = layer(operator, {"y": [TIME, 1, BATCH, HIDDEN]}, inputs)
    module = OnnxModule(load_graph(proto))
    module(feed)["y"].square().sum().backward()
    assert module.weights().keys() == trained
    assert all(weight.grad.abs().min() > 0 for weight in module.weights().values())


@operators
@pytest.mark.parametrize(
    "attributes",
    [
        {"direction": "backward"},
        {"activations": ["Sigmoid", "Tanh", "Cosine"]},
        {"activations": ["Cosine", "Cosine", "Cosine"]},
        {"activations": ["relu", "relu", "relu"]},
        {"activations": ["Relu"], "direction": "bidirectional"},
        {"clip": 0.0},
        {"clip": -1.0},
    ],
    ids=str,
)
def test_options_without_a_clear_meaning_are_refused(operator, attributes):
    if "Sigmoid" in attributes.get("activations", ()) and operator != "LSTM":
        attributes = {"activations": attributes["activations"][-FUNCTIONS_OF[operator] :][::-1]}
    proto, _ = layer(operator, {"y": [TIME, 1, BATCH, HIDDEN]}, **attributes)
    assert find(load_graph(proto).nodes[0]) is None


@operators
@pytest.mark.parametrize("lengths", [[5, 6, 1], [-1, 2, 2], [5, 5]], ids=str)
def test_impossible_lengths_raise(operator, lengths):
    arrays = {key: None if value is None else torch.from_numpy(value) for key, value in tensors(operator).items()}
    with pytest.raises(ValueError, match="sequence_lens"):
        RUN[operator](*(arrays | {"lens": lengths}).values())


@operators
def test_an_empty_sequence_raises(operator):
    arrays = {key: None if value is None else torch.from_numpy(value) for key, value in tensors(operator).items()}
    with pytest.raises(ValueError, match="at least one step"):
        RUN[operator](*(arrays | {"x": arrays["x"][:0]}).values())


@pytest.mark.parametrize(("batch_axis", "time_axis"), [(0, 1), (1, 0)])
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_, np.uint8])
def test_reversal_of_sequences_agrees(agree, batch_axis, time_axis, dtype):
    x = (np.arange(4 * 4 * 2) % 7).reshape(4, 4, 2).astype(dtype)
    lengths = np.array([3, 0, 4, 1])
    agree("ReverseSequence", {"x": x, "lens": lengths}, opset=10, batch_axis=batch_axis, time_axis=time_axis)


def test_reversal_keeps_later_dimensions_together():
    x = torch.arange(12.0).reshape(3, 2, 2)
    proto = helper.make_model(
        helper.make_graph(
            [helper.make_node("ReverseSequence", ["x", "n"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 2, 2])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 2, 2])],
            [numpy_helper.from_array(np.array([2, 3]), "n")],
        ),
        opset_imports=[helper.make_opsetid("", 10)],
    )
    y = OnnxModule(load_graph(proto))({"x": x})["y"]
    assert y[:, 0].tolist() == [[4.0, 5.0], [0.0, 1.0], [8.0, 9.0]]
    assert y[:, 1].tolist() == [[10.0, 11.0], [6.0, 7.0], [2.0, 3.0]]
