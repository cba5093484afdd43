"""Half-precision models computed with in float32, with the same inputs and outputs."""

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

from toolchain.export.sessions import open_session
from toolchain.graph import load_graph, widen

TEXT = """<ir_version: 8, opset_import: ["" : 17]> net (float16[N, 3, 4, 4] x, float[N, 1] k) =>
  (float16[N, 2] y, float[N, 2] z) {
  c = Conv (x, w)
  p = GlobalAveragePool (c)
  f = Flatten (p)
  y = Mul (f, h)
  g = Cast <to = 10> (k)
  s = Mul (y, g)
  z = Cast <to = 1> (s)
}"""


def model():
    proto = onnx.parser.parse_model(TEXT)
    weight = np.random.default_rng(0).standard_normal((2, 3, 3, 3)).astype(np.float16)
    proto.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    half = numpy_helper.from_array(np.array([0.5], np.float16))
    proto.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["h"], value=half))
    return proto


def feeds():
    rng = np.random.default_rng(1)
    return {"x": rng.standard_normal((5, 3, 4, 4)).astype(np.float16), "k": rng.random((5, 1)).astype(np.float32)}


def test_it_computes_the_same_between_the_same_inputs_and_outputs():
    graph = load_graph(model())
    wide, note = widen(graph)
    assert note == "its 2 float16 constants are computed with in float32"
    assert wide.inputs == graph.inputs
    assert wide.outputs == graph.outputs
    assert {wide.initializers.dtype(name) for name in wide.initializers} == {np.dtype(np.float32)}
    before, after = (open_session(item.proto, threads=1).run(None, feeds()) for item in (graph, wide))
    for left, right in zip(before, after, strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_allclose(left.astype(np.float32), right.astype(np.float32), atol=2e-3)


def test_constants_and_inputs_may_be_outputs():
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float16[2] x) => (float16[2] y, float16[2] w, float16[2] x) { y = Mul (x, w) }"""
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(numpy_helper.from_array(np.array([0.5, 2], np.float16), "w"))
    graph = load_graph(proto)
    wide, _ = widen(graph)
    x = np.array([3, 4], np.float16)
    found = open_session(wide.proto, threads=1).run(None, {"x": x})
    assert [(item.dtype, item.tolist()) for item in found] == [
        (np.float16, [1.5, 8.0]),
        (np.float16, [0.5, 2.0]),
        (np.float16, [3.0, 4.0]),
    ]


def test_a_model_of_float32_stays_as_it_is():
    text = '<ir_version: 8, opset_import: ["" : 17]> net (float[2] x) => (float[2] y) { y = Add (x, x) }'
    graph = load_graph(onnx.parser.parse_model(text))
    assert widen(graph) == (graph, "")


def test_a_model_with_subgraphs_stays_as_it_is():
    text = """<ir_version: 8, opset_import: ["" : 17]> net (float16[2] x, bool b) => (float16[2] y) {
      y = If (b) <then_branch = a () => (float16[2] t) { t = Add (x, w) },
        else_branch = c () => (float16[2] e) { e = Mul (x, w) }>
    }"""
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(numpy_helper.from_array(np.ones(2, np.float16), "w"))
    graph = load_graph(proto)
    assert widen(graph) == (graph, "")
