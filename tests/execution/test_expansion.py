import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from toolchain.execution.expansion import Types, expand
from toolchain.graph import load_graph
from toolchain.module import OnnxModule

HEADER = '<ir_version: 10, opset_import: ["" : 18]>'


def node_of(body, signature="(float[2, 3] x) => (float[2, 3] y)"):
    graph = load_graph(onnx.parser.parse_model(f"{HEADER} g {signature} {{ {body} }}"))
    return graph, graph.nodes[0]


def evaluated(nodes, feed, output):
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, x.shape) for name, x in feed.items()]
    result = onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)
    graph = onnx.helper.make_graph(nodes, "expanded", values, [result])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    return ReferenceEvaluator(model).run(None, feed)[0]


@pytest.mark.parametrize(
    ("body", "function"),
    [
        ("y = HardSwish(x)", lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),  # a fixed function body
        ("y = Celu(x)", lambda x: np.maximum(x, 0) + np.minimum(0, np.exp(x) - 1)),  # attribute left at its default
        ("y = Celu<alpha = 2.0>(x)", lambda x: np.maximum(x, 0) + np.minimum(0, 2 * (np.exp(x / 2) - 1))),
    ],
    ids=["fixed", "default", "attribute"],
)
def test_a_function_body_stands_for_the_operator(body, function):
    graph, node = node_of(body)
    x = np.array([[-3, -1, -0.5], [0, 1, 4]], np.float32)
    nodes, _ = expand(node, Types(graph), set())
    assert nodes
    assert all(inner.op_type != node.op for inner in nodes)
    np.testing.assert_allclose(evaluated(nodes, {"x": x}, "y"), function(x), rtol=1e-5, atol=1e-6)


def test_a_function_body_that_depends_on_types_takes_them_from_the_graph():
    body = "loss = SoftmaxCrossEntropyLoss(scores, labels)"
    graph, node = node_of(body, "(float[2, 3] scores, int64[2] labels) => (float loss)")
    assert "LogSoftmax" in {inner.op_type for inner in expand(node, Types(graph), set())[0]}


def test_an_operator_without_function_body_and_one_without_schema_stay():
    graph, node = node_of("y = Sin(x)")
    assert expand(node, Types(graph), set()) == ([], {})
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 18, "lab" : 1]> g (float[2] x) => (float[2] y) { y = lab.Odd(x) }'
    )
    graph = load_graph(proto)
    assert expand(graph.nodes[0], Types(graph), set()) == ([], {})


def test_calls_of_one_operator_do_not_share_what_depends_on_their_attributes():
    graph, _ = node_of(
        "y = LayerNormalization<epsilon = 10.0, stash_type = 16>(x, s) "
        "z = LayerNormalization<epsilon = 0.001, stash_type = 16>(x, s)",
        "(float[2, 3] x, float[3] s) => (float[2, 3] y, float[2, 3] z)",
    )
    x = np.array([[1, 2, 4], [3, 0, 1]], np.float32)
    results = OnnxModule(graph)({"x": x, "s": np.ones(3, np.float32)})
    for name, epsilon in (("y", 10.0), ("z", 0.001)):
        wanted = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + epsilon)
        np.testing.assert_allclose(results[name], wanted, atol=0.05)  # in bfloat16


def test_values_of_a_function_body_do_not_take_the_names_of_others():
    proto = onnx.parser.parse_model(
        f"{HEADER} g (float[2, 3] x, float[3] s) => (float[2, 3] y, float[2, 3] z) "
        "{ v = Neg(x) [n] y = LayerNormalization<stash_type = 16>(x, s) z = Identity(v) }"
    )
    graph = load_graph(proto)
    inner, _ = expand(graph.nodes[1], Types(graph), set())
    for name in {name for node in inner for name in node.output} - {"y"}:
        renamed = onnx.ModelProto()
        renamed.CopyFrom(proto)
        renamed.graph.node[0].output[0] = renamed.graph.node[2].input[0] = name
        x = np.ones((2, 3), np.float32)
        assert (OnnxModule(load_graph(renamed))({"x": x, "s": x[0]})["z"] == -1).all(), name
