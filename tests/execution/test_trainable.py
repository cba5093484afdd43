import numpy as np
import onnx
import pytest

from toolchain.execution.trainable import usable_weights
from toolchain.graph import load_graph
from toolchain.module import OnnxModule

HEADER = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> g (float[2, 4] x) => (float y)'
W = "float[4, 4] w = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7.5}"


def graph_of(body, weights):
    return load_graph(onnx.parser.parse_model(f"{HEADER} <{weights}> {{ {body} }}"))


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("h = MatMul(x, w) y = Add(h, v)", "float[4] v = {0.5, -0.25, 1, 2}"),
        ("h = MatMul(x, w) y = Add(h, v)", "float[4] v = {0, 0, 0, 0}"),  # a bias before training
        ("h = MatMul(x, w) y = Mul(h, v)", "float[4] v = {1, 1, 1, 1}"),  # a scale before training
        ("c = Cast<to=1>(v) t = Transpose(c) y = MatMul(x, t)", "float16[4, 4] v = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7}"),
    ],
    ids=["bias", "zeros", "ones", "half behind a cast"],
)
def test_what_was_trained_trains(body, weights):
    assert "v" in OnnxModule(graph_of(body, f"{W}, {weights}")).weights()


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("h = MatMul(x, w) y = Add(h, v)", "float[1, 4] v = {0, 0, -10000, -10000}"),
        ("h = MatMul(x, w) y = Mul(h, v)", "float[4] v = {0, 1, 1, 0}"),
        ("h = MatMul(x, w) y = Mul(h, v)", "float[4] v = {8, 16, 32, 32}"),
        ("c = Sub(x, v) y = MatMul(c, w)", "float[4] v = {0.485, 0.456, 0.406, 0.5}"),
    ],
    ids=["mask that is added", "mask that is multiplied", "strides", "mean of the data"],
)
def test_masks_tables_and_preparations_of_the_input_do_not_train(body, weights):
    assert set(OnnxModule(graph_of(body, f"{W}, {weights}")).weights()) == {"w"}


def test_a_weight_that_an_island_uses_cannot_be_compressed_and_says_so():
    graph = graph_of("h = MatMul(x, w) d = com.microsoft.CDist(h, v) y = Relu(d)", f"{W}, {W.replace(' w', ' v')}")
    reasons = {weight.name: weight.reason for weight in usable_weights(graph)}
    assert reasons["w"] == ""
    shared = graph_of("h = MatMul(x, w) d = com.microsoft.CDist(h, w) y = Relu(d)", W)
    (weight,) = usable_weights(shared)
    assert weight.reason
    assert set(OnnxModule(shared).weights()) == set()
    assert np.array_equal(OnnxModule(shared).tensor("w"), graph.initializers["w"])
