import numpy as np
import onnx.parser
import pytest

from toolchain.graph import find_weights, load_graph
from toolchain.graph.layout import Layout, find_layouts


def layout_of(node, x, shape, y):
    text = f'<ir_version: 8, opset_import: ["": 17]> g (float{x} x) => (float{y} y) {{ {node} }}'
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(shape, np.float32), "w"))
    graph = load_graph(proto)
    return find_layouts(graph, find_weights(graph)).get("w")


@pytest.mark.parametrize(
    ("node", "x", "shape", "y", "expected", "stack"),
    [
        ("y = Conv(x, w)", [1, 4, 5, 5], (6, 4, 3, 2), [1, 6, 3, 4], Layout((6, 4, 3, 2), 0, 1, (2, 3)), (1, 6, 4, 6)),
        (
            "y = Conv<group = 2>(x, w)",
            [1, 4, 5],
            (6, 2, 3),
            [1, 6, 3],
            Layout((6, 2, 3), 0, 1, (2,), groups=2),
            (2, 3, 2, 3),
        ),
        (
            "y = ConvTranspose<group = 2>(x, w)",
            [1, 4, 5],
            (4, 3, 3),
            [1, 6, 7],
            Layout((4, 3, 3), 1, 0, (2,), groups=2),
            (2, 3, 2, 3),
        ),
        ("y = MatMul(x, w)", [1, 4], (4, 6), [1, 6], Layout((4, 6), 1, 0), (1, 6, 4, 1)),
        ("y = MatMul(w, x)", [4, 3], (6, 4), [6, 3], Layout((6, 4), 0, 1), (1, 6, 4, 1)),
        ("y = MatMul(x, w)", [2, 1, 4], (2, 4, 6), [2, 1, 6], Layout((2, 4, 6), 2, 1), (2, 6, 4, 1)),
        ("y = Gemm<transB = 1>(x, w)", [1, 4], (6, 4), [1, 6], Layout((6, 4), 0, 1), (1, 6, 4, 1)),
    ],
)
def test_a_weight_is_read_as_its_operator_does(node, x, shape, y, expected, stack):
    found = layout_of(node, x, shape, y)
    assert found == expected
    assert found.stack == stack


def test_users_that_read_a_weight_differently_leave_it_without_a_layout():
    both = "a = Conv(x, w) b = Conv<group = 2>(z, w) y = Add(a, b)"
    head = "[1, 2, 3] x, float[1, 4, 3] z"
    text = f'<ir_version: 8, opset_import: ["": 17]> g (float{head}) => (float[1, 4, 1] y) {{ {both} }}'
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((4, 2, 3), np.float32), "w"))
    graph = load_graph(proto)
    assert find_layouts(graph, find_weights(graph)) == {}
