import onnx
import pytest
import torch

from toolchain.errors import ModelError
from toolchain.execution.program import resolve
from toolchain.graph import load_graph
from toolchain.module import OnnxModule


def graph_of(body, constants):
    head = '<ir_version: 10, opset_import: ["" : 21]> net (float[2] x) => (int64[n] y)'
    return load_graph(onnx.parser.parse_model(f"{head} <{constants}> {{ {body} }}"))


def test_a_range_of_constants_is_made_once():
    program = resolve(graph_of("y = Range (a, b, c)", "int64 a = {2}, int64 b = {11}, int64 c = {3}"))
    assert not program.steps
    assert program.constants["y"].tolist() == [2, 5, 8]


@pytest.mark.parametrize(
    ("body", "constants", "made_by"),
    [
        ("y = Range (a, b, c)", "int64 a = {0}, int64 b = {1073741824}, int64 c = {1}", "arange"),
        ("y = ConstantOfShape <value = int64[1] {0}> (a)", "int64[1] a = {1073741824}", "clone"),
        (
            "v = Mul (a, b)  y = Flatten (v)",
            f"int64[4096,1] a = {{{'1,' * 4095}1}}, int64[1,4096] b = {{{'1,' * 4095}1}}",
            "__mul__",
        ),
    ],
    ids=["range", "fill", "broadcast"],
)
def test_what_a_few_constants_make_large_is_not_made_before_it_is_needed(monkeypatch, body, constants, made_by):
    def forbidden(*_, **__):
        raise AssertionError("made")

    graph = graph_of(body, constants)
    monkeypatch.setattr(torch if made_by == "arange" else torch.Tensor, made_by, forbidden)
    assert resolve(graph).steps


def test_a_shape_that_is_no_number_is_refused_by_name():
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]> net (float[2] x) => (float[n] y) <int64[1] shape = {2}> '
        "{ y = Reshape (x, shape) }"
    )
    text = onnx.helper.make_tensor("shape", onnx.TensorProto.STRING, [1], [b"two"])
    proto.graph.initializer[0].CopyFrom(text)
    with pytest.raises(ModelError, match="constant 'shape' cannot be taken for numbers"):
        resolve(load_graph(proto))


def test_statistics_do_not_train_where_they_are_a_bias_too():
    graph = load_graph(
        onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17]> net (float[n,3,4,4] x) => (float[n,3,4,4] y) '
            "<float[3] one = {1,1,1}, float[3] zero = {0,0,0}, float[3] gain = {1,2,3}> "
            "{ y = BatchNormalization (x, gain, zero, zero, one) }"
        )
    )
    module = OnnxModule(graph).eval()
    assert set(module.weights()) == {"gain"}
    assert module({"x": torch.ones(2, 3, 4, 4)})["y"].shape == (2, 3, 4, 4)


def test_a_required_input_that_is_left_out_is_named():
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]> net (float[2,2] x) => (float[2,2] y) '
        "{ [scaled] y = com.microsoft.FusedMatMul (x, ) }"
    )
    proto.graph.node[0].input[:] = ["x", ""]
    with pytest.raises(ModelError, match="FusedMatMul node 'scaled' leaves out input 1, "):
        OnnxModule(load_graph(proto))


def test_numbers_that_numpy_lacks_are_folded_too():
    body = "b = Cast <to = 16> (k) q = Cast <to = 22> (k) c = Cast <to = 7> (b) d = Cast <to = 7> (q) y = Add (c, d)"
    module = OnnxModule(graph_of(body, "int64[2] k = {1, -2}"))
    assert module({"x": torch.zeros(2)})["y"].tolist() == [2, -4]


def test_what_the_runtime_runs_with_a_weight_of_its_own_does_not_train_it():
    text = (
        '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> net (float[2,2] x) => (float[2,2] y) '
        "<float[2,2] w = {1,2,3,4}, float[2,2] v = {1,2,3,4}> "
        '{ a = MatMul (x, w) b = MatMul (a, v) y = com.microsoft.CDist <metric = "euclidean"> (b, w) }'
    )
    assert set(OnnxModule(load_graph(onnx.parser.parse_model(text))).weights()) == {"v"}


def test_weights_are_found_behind_any_number_of_branches_that_join_again():
    blocks = " ".join(f"c{k} = Concat <axis = 0> (v{k}, v{k}) v{k + 1} = Slice (c{k}, zero, two)" for k in range(64))
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> net (float[n,2] x) => (float[n,2] y) '
        "<float[2,2] v0 = {1,2,3,4}, int64[1] zero = {0}, int64[1] two = {2}> "
        f"{{ {blocks} y = MatMul (x, v64) }}"
    )
    assert set(OnnxModule(load_graph(onnx.parser.parse_model(text))).weights()) == {"v0"}
