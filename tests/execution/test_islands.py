import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from toolchain.errors import ModelError
from toolchain.graph import load_graph
from toolchain.module import OnnxModule

HEADER = '<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>'
X = np.array([[1, -2, 3]], np.float32)


def built(body, weights="", outputs="float[1, n] y"):
    text = f"{HEADER} g (float[1, 3] x) => ({outputs}) {f'<{weights}>' if weights else ''} {{ {body} }}"
    proto = onnx.parser.parse_model(text)
    return proto, OnnxModule(load_graph(proto)).eval()


def expected(proto, feed):
    return onnxruntime.InferenceSession(proto.SerializeToString()).run(None, feed)


SCALER = "ai.onnx.ml.Scaler<offset = [1.0, 0.5, 2.0], scale = [2.0, 3.0, 0.5]>"
W = "float[3, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9}, float[3, 3] v = {1, 0, 1, 0, 1, 0, 1, 1, 0}"


def test_an_operator_that_only_the_runtime_has_is_run_by_it():
    proto, module = built(f"a = MatMul(x, w) b = {SCALER}(a) c = ai.onnx.ml.Normalizer(b) y = MatMul(c, v)", W)
    np.testing.assert_allclose(module({"x": X})["y"].detach(), expected(proto, {"x": X})[0], rtol=1e-6)
    assert [[node.op for node in island.nodes] for island in module.program.islands] == [["Scaler", "Normalizer"]]


def test_no_gradient_passes_an_island_and_weights_behind_it_train():
    _, module = built(f"a = MatMul(x, w) b = {SCALER}(a) y = MatMul(b, v)", W)
    module({"x": X})["y"].sum().backward()
    assert module.weights()["w"].grad is None
    assert module.weights()["v"].grad.any()


def test_an_island_takes_every_batch_size_and_element_type_that_comes():
    _, module = built(f"y = {SCALER}(x)")
    for rows, dtype in ((1, torch.float32), (4, torch.float32), (2, torch.float64)):
        x = torch.ones(rows, 3).to(dtype)
        np.testing.assert_allclose(module({"x": x})["y"], [[0, 1.5, -0.5]] * rows)


def test_strings_and_maps_pass_through():
    body = (
        'l = ai.onnx.ml.LabelEncoder<keys_int64s = [0, 1, 2], values_strings = ["a", "b", "c"]>(i) '
        'i = ArgMax<axis = 1, keepdims = 0>(x) y = ai.onnx.ml.ZipMap<classlabels_strings = ["a", "b", "c"]>(x)'
    )
    body = " ".join(
        [body[body.index("i = ") : body.index("y = ")], body[: body.index("i = ")], body[body.index("y = ") :]]
    )
    _, module = built(body, outputs="string[1] l, seq(map(string, float)) y")
    results = module({"x": X})
    assert list(results["l"]) == ["c"]
    assert results["y"] == [{"a": 1.0, "b": -2.0, "c": 3.0}]


def test_an_island_inside_a_branch_reads_values_from_around_it():
    body = (
        "h = MatMul(x, w) s = ReduceSum<keepdims = 0>(x) t = Constant<value = float {0.0}>() up = Greater(s, t) "
        "y = If (up) < then_branch = a () => (float[1, n] out) { "
        f"out = {SCALER}(h) }}, else_branch = b () => (float[1, n] out) {{ out = Neg(h) }} >"
    )
    proto, module = built(body, W)
    for x in (X, -X):
        np.testing.assert_allclose(module({"x": x})["y"].detach(), expected(proto, {"x": x})[0], rtol=1e-6)


def test_what_the_runtime_cannot_run_is_an_error_that_names_the_operator():
    _, module = built(f"y = {SCALER}(x)")
    with pytest.raises(ModelError, match="Scaler"):
        module({"x": torch.ones(1, 5)})


def test_nodes_that_were_written_for_other_versions_are_islands_of_their_own():
    text = """<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 1, "local" : 1]>
    g (float[2, 3] x, string[2] s) => (float[2, 3] y, int64[2] n) {
        n = ai.onnx.ml.LabelEncoder<classes_strings = ["a", "b"]>(s) y = local.scale(x)
    }
    <domain: "local", opset_import: ["" : 17, "ai.onnx.ml" : 2]>
    scale (a) => (b) { b = ai.onnx.ml.Scaler<offset = [1.0, 0.5, 2.0], scale = [2.0, 3.0, 0.5]>(a) }"""
    proto = onnx.parser.parse_model(text)
    feed = {"x": np.ones((2, 3), np.float32), "s": np.array(["b", "a"], object)}
    results = OnnxModule(load_graph(proto))(feed)
    for name, value in zip(("y", "n"), expected(proto, feed), strict=True):
        np.testing.assert_array_equal(results[name], value)


def test_a_subgraph_of_an_island_reads_initializers_of_its_own_and_those_around_it():
    text = """<ir_version: 3, opset_import: ["" : 8]>
    g (float[1, 3, 2] x, float[1, 2] s, float[2] w) => (float[1, 2] last, float[1, 3, 2] y) <float[2] w = {2, 3}> {
        z = Neg(s)
        last, y = Scan<num_scan_inputs = 1, body = b (float[2] a, float[2] e) => (float[2] sum, float[2] out) {
            k = Constant<value = float[2] {5.0, 7.0}>() sum = Add(a, e) t = Mul(sum, k) out = Mul(t, w)
        }>(, z, x)
    }"""
    proto = onnx.parser.parse_model(text)
    feed = {"x": np.arange(6, dtype=np.float32).reshape(1, 3, 2), "s": np.ones((1, 2), np.float32)}
    results = OnnxModule(load_graph(proto))(feed)
    for name, value in zip(("last", "y"), expected(proto, feed), strict=True):
        np.testing.assert_array_equal(results[name], value)
