import time

import numpy as np
import onnx
import pytest

from toolchain.graph import find_weights, load_graph, simplify


def graph_of(body, weights):
    """A graph from x [2,3] to y."""
    header = '<ir_version: 8, opset_import: ["" : 13]> g (float[2,3] x) => (float y)'
    return load_graph(onnx.parser.parse_model(f"{header} <{weights}> {{ {body} }}"))


def compressible(graph):
    return [weight.name for weight in find_weights(graph) if not weight.reason]


W = "float[3,4] w = {1,2,3,4,5,6,7,8,9,10,11,12}"
T = "float[4,3] t = {1,2,3,4,5,6,7,8,9,10,11,12}"


def test_a_graph_without_hidden_weights_is_returned_as_it_is():
    graph = graph_of("y = MatMul(x, w)", W)
    assert simplify(graph) == (graph, "")


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("h = Transpose<perm=[1,0]>(t) y = MatMul(x, h)", T),
        ("s = Constant<value_ints=[3,4]>() h = Reshape(v, s) y = MatMul(x, h)", W.replace("3,4] w", "12] v")),
        ("i = Identity(t) h = Transpose(i) y = MatMul(x, h)", T),
    ],
    ids=["transpose", "reshape", "identity and transpose"],
)
def test_a_weight_behind_a_constant_expression_becomes_an_initializer(body, weights):
    graph = graph_of(body, weights)
    assert compressible(graph) == []
    simplified, note = simplify(graph)
    assert note == "folded constant expressions that hid 1 weight"
    assert compressible(simplified) == ["h"]
    assert [node.op for node in simplified.nodes] == ["MatMul"]
    assert [tensor.name for tensor in simplified.proto.graph.initializer] == ["h"]


def test_the_folded_values_are_right():
    simplified, _ = simplify(graph_of("h = Transpose(t) y = MatMul(x, h)", T))
    np.testing.assert_array_equal(simplified.initializers["h"], np.arange(1, 13).reshape(4, 3).T)


def test_a_weight_shared_through_identity_stays_one_tensor():
    graph = graph_of("a = Identity(w) b = Identity(a) m = MatMul(x, a) n = MatMul(x, b) y = Add(m, n)", W)
    simplified, note = simplify(graph)
    assert note == "folded constant expressions that hid 1 weight"
    assert compressible(simplified) == ["w"]
    assert [node.op for node in simplified.nodes] == ["MatMul", "MatMul", "Add"]


def test_a_split_of_stacked_weights_is_folded_as_a_whole():
    stacked = "float[6,4] w = {" + ",".join(str(i) for i in range(24)) + "}"
    graph = graph_of("a, b = Split<axis=0>(w) m = MatMul(x, a) n = MatMul(x, b) y = Add(m, n)", stacked)
    simplified, note = simplify(graph)
    assert note == "folded constant expressions that hid 2 weights"
    assert compressible(simplified) == ["a", "b"]


def test_an_initializer_that_is_still_used_elsewhere_stays():
    graph = graph_of("h = Transpose(t) m = MatMul(x, h) y = MatMul(m, t)", T)
    simplified, _ = simplify(graph)
    assert compressible(simplified) == ["h", "t"]


def test_a_weight_made_of_a_tensor_that_is_read_otherwise_is_left():
    body = "e = Gather(t, i) a = Add(x, e) h = Transpose(t) y = MatMul(a, h)"  # an embedding and its head
    graph = graph_of(body, f"{T}, int64[1] i = {{0}}")
    assert simplify(graph) == (
        graph,
        "1 weight is computed from a tensor that is read otherwise too, and left: a copy would make the file larger",
    )


def test_a_weight_that_is_an_output_as_well_is_not_copied():
    proto = graph_of("h = Transpose(t) y = MatMul(x, h)", T).proto
    proto.graph.output.append(onnx.helper.make_tensor_value_info("t", onnx.TensorProto.FLOAT, [4, 3]))
    simplified, note = simplify(load_graph(proto))
    assert compressible(simplified) == []
    assert "left" in note


def test_names_of_what_stays_do_not_change():
    graph = graph_of("h = Transpose(t) m = MatMul(x, h) y = Relu(m)", T)
    graph.proto.metadata_props.add(key="k", value="v")
    simplified, _ = simplify(graph)
    assert [node.name for node in simplified.proto.graph.node] == [node.name for node in graph.proto.graph.node[1:]]
    assert simplified.proto.metadata_props == graph.proto.metadata_props
    assert graph.proto.graph.node[0].op_type == "Transpose"  # the original is untouched


def test_an_old_file_whose_initializers_are_inputs_is_folded():
    proto = onnx.parser.parse_model(
        '<ir_version: 3, opset_import: ["" : 8]> g (float[2,3] x, float[4,3] t) => (float[2,4] y) '
        f"<{T}> {{ h = Transpose(t) y = MatMul(x, h) }}"
    )
    simplified, _ = simplify(load_graph(proto))
    assert compressible(simplified) == ["h"]
    assert [value.name for value in simplified.inputs] == ["x"]


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("h = ConstantOfShape(s) y = MatMul(x, h)", "int64[2] s = {3,4}"),
        ("h = DequantizeLinear(q, s) y = MatMul(x, h)", "int8[3,4] q = {1}, float s = {0.5}"),
    ],
    ids=["fill", "quantized"],
)
def test_fills_and_quantized_weights_are_left_alone(body, weights):
    graph = graph_of(body, weights.replace("{1}", "{1,1,1,1,1,1,1,1,1,1,1,1}"))
    assert simplify(graph) == (graph, "")


def test_a_graph_that_cannot_be_checked_is_left_with_a_reason():
    # No row 99 exists, so the model runs on no input at all.
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 13]> g (float[n,3] x) => (float[n,4] y) '
        f"<{T}, int64[1] far = {{99}}> {{ h = Transpose(t) m = MatMul(x, h) y = Gather(m, far) }}"
    )
    graph = load_graph(proto)
    same, note = simplify(graph)
    assert same is graph
    assert "left as they are" in note


def test_constants_far_larger_than_the_file_are_not_computed():
    wide = "int64[2] s = {1048576,1048576}, float[1,1] one = {1}"
    graph = graph_of(
        "h = Expand(one, s) t2 = Transpose(t) m = MatMul(x, t2) n = MatMul(m, h) y = Relu(n)", f"{T}, {wide}"
    )
    same, note = simplify(graph)
    assert same is graph
    assert "'h' would have the shape [1048576, 1048576], too large" in note


def test_a_model_of_absurd_inputs_is_not_tried():
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 13]> g (float[1099511627776,3] x) => (float[n,4] y) '
        f"<{T}> {{ h = Transpose(t) y = MatMul(x, h) }}"
    )
    same, note = simplify(load_graph(proto))
    assert compressible(same) == []
    assert "input 'x' of shape [1099511627776, 3] is too large to try" in note


def test_a_model_that_does_not_end_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("toolchain.graph.trial.MAX_TRIAL_SECONDS", 0.5)
    body = """h = Transpose(t)  m = MatMul(x, h)  y = Loop(, on, m) <body = step (int64 i, bool c, float[2,4] a)
        => (bool d, float[2,4] b) { d = Identity(c)  b = Neg(a) }>"""
    graph = graph_of(body, f"{T}, bool on = {{1}}")
    started = time.monotonic()
    same, note = simplify(graph)
    assert same is graph
    assert "left as they are" in note
    assert time.monotonic() - started < 20


def test_a_model_whose_output_is_no_tensor_is_left_with_a_reason():
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 13]> g (float[2,3] x) => (float[2,4] y, seq(float[2,3]) s) '
        f"<{T}> {{ h = Transpose(t) y = MatMul(x, h) s = SequenceConstruct(x) }}"
    )
    graph = load_graph(proto)
    same, note = simplify(graph)
    assert same is graph
    assert "no tensor" in note
