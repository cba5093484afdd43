import numpy as np
import onnx
import onnxruntime
import pytest

from toolchain.errors import ModelError
from toolchain.graph import find_weights, load_graph, simplify
from toolchain.graph.flatten import flatten
from toolchain.module import OnnxModule

FUNCTIONS = """
<ir_version: 10, opset_import: ["" : 18, "lab" : 1]>
g (float[N, 3] x) => (float[N, 3] y) <float[3, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9}> {
  a = lab.Dense<alpha = 0.5>(x, w)
  b = lab.Twice(a)
  c = lab.Twice(b)
  y = lab.Dense<alpha = 2.0>(c, w)
}
<domain: "lab", opset_import: ["" : 18]>
Dense <alpha> (data, weight) => (out) {
  product = Gemm<alpha: float = @alpha, transB = 1>(data, weight)
  out = LeakyRelu<alpha: float = @alpha>(product)
}
<domain: "lab", opset_import: ["" : 18]>
Twice (data) => (out) {
  own = Constant<value = float[3, 3] {1, 0, 2, 0, 1, 0, 3, 0, 1}>()
  out = MatMul(data, own)
}
"""

BRANCHES = """
<ir_version: 10, opset_import: ["" : 18]>
g (float[N, 2] x, bool right) => (float[N, 2] y) <float[2, 2] outside = {1, 2, 3, 4}> {
  h = MatMul(x, outside)
  y = If (right) <
    then_branch = a () => (float[N, 2] out) <float[2, 2] w = {5, 6, 7, 8}> { out = MatMul(h, w) },
    else_branch = b () => (float[N, 2] out) <float[2, 2] w = {9, 8, 7, 6}> { p = MatMul(h, w)  out = Relu(p) }
  >
}
"""

CONSTANT_BRANCH = """
<ir_version: 10, opset_import: ["" : 18]>
g (float[1, 2] x, bool right) => (float[1, 2] y) {
  y = If (right) <
    then_branch = a () => (float[1, 2] out) <float[2, 2] w = {5, 6, 7, 8}> { out = MatMul(x, w) },
    else_branch = b () => (float[1, 2] c) { c = Constant<value = float[1, 2] {3, 4}>() }
  >
}
"""

LOOP = """
<ir_version: 10, opset_import: ["" : 18]>
g (float[1, 2] x) => (float[1, 2] y, float[3, 1, 2] all) <int64 count = {3}, bool go = {1}> {
  y, all = Loop (count, go, x) <
    body = b (int64 i, bool on, float[1, 2] state) => (bool on, float[1, 2] next, float[1, 2] seen)
      <float[2, 2] w = {0.5, 0.25, 1, -0.5}> {
      next = MatMul(state, w)
      seen = Identity(next)
    }
  >
}
"""

X3 = {"x": np.array([[1, -2, 3], [0.5, 1, -1]], np.float32)}
X2 = {"x": np.array([[1, -2]], np.float32)}
MODELS = {
    "functions": (FUNCTIONS, X3, ["w", "lab.Twice/own"]),
    "then": (BRANCHES, X2 | {"right": np.array(True)}, ["outside", "w", "If_1/else_branch/w"]),
    "else": (BRANCHES, X2 | {"right": np.array(False)}, ["outside", "w", "If_1/else_branch/w"]),
    "constant branch": (CONSTANT_BRANCH, X2 | {"right": np.array(False)}, ["w"]),
    "loop": (LOOP, X2, ["w"]),
}


def run(proto, feed):
    return onnxruntime.InferenceSession(proto.SerializeToString()).run(None, feed)


def compressible(graph):
    return [weight.name for weight in find_weights(graph) if not weight.reason]


@pytest.mark.parametrize("name", MODELS)
def test_the_flat_model_computes_the_same_with_all_weights_outermost(name):
    text, feed, weights = MODELS[name]
    graph = load_graph(onnx.parser.parse_model(text))
    assert compressible(graph) == weights
    flat = flatten(graph)
    assert not flat.proto.functions
    assert set(weights) <= {tensor.name for tensor in flat.proto.graph.initializer}
    assert compressible(flat) == weights
    for got, expected in zip(run(flat.proto, feed), run(graph.proto, feed), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_the_module_computes_the_same_and_trains_every_weight(name):
    text, feed, weights = MODELS[name]
    graph = load_graph(onnx.parser.parse_model(text))
    module = OnnxModule(graph).eval()
    results = module(feed)
    for got, expected in zip(results.values(), run(graph.proto, feed), strict=True):
        np.testing.assert_allclose(got.detach().numpy(), expected, rtol=1e-6)
    assert set(weights) == set(module.weights())
    if name in ("functions", "loop"):
        sum(value.sum() for value in results.values()).backward()
        assert all(weight.grad is not None and weight.grad.any() for weight in module.weights().values())


def test_a_model_without_nested_weights_is_returned_as_it_is():
    graph = load_graph(onnx.parser.parse_model(BRANCHES.replace("MatMul(h, w)", "Relu(h)")))
    assert flatten(graph) is graph


def test_simplify_says_that_weights_were_moved():
    _, note = simplify(load_graph(onnx.parser.parse_model(FUNCTIONS)))
    assert note == "moved the weights of functions and subgraphs to the outermost graph"


def test_a_function_that_calls_itself_is_an_error():
    call_back = FUNCTIONS.replace("out = MatMul(data, own)", "out = lab.Twice(data)")
    text = call_back.replace('"lab", opset_import: ["" : 18]>', '"lab", opset_import: ["" : 18, "lab" : 1]>')
    with pytest.raises(ModelError, match="must not be recursive"):
        load_graph(onnx.parser.parse_model(text))
