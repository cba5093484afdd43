import numpy as np
import onnx.parser
from onnx import numpy_helper

from toolchain.graph import load_graph
from toolchain.planning.ends import find_ends

BRANCHES = """
<ir_version: 8, opset_import: ["" : 17]>
branches (float[N, 4] x) => (float[N, 4] y, float[N, 4] z) {
  a = MatMul(x, w1)
  b = MatMul(a, w2)
  r = Relu(b)
  y = MatMul(r, w3)
  z = MatMul(b, w4)
}
"""


def test_the_ends_are_what_nothing_leads_to_and_what_leads_to_nothing():
    proto = onnx.parser.parse_model(BRANCHES)
    for name in ("w1", "w2", "w3", "w4"):
        proto.graph.initializer.append(numpy_helper.from_array(np.ones((4, 4), np.float32), name))
    graph = load_graph(proto)
    assert find_ends(graph, ["w1", "w2", "w3", "w4"]) == {"w1", "w3", "w4"}
    assert find_ends(graph, ["w2", "w3"]) == {"w2", "w3"}
    assert find_ends(graph, ["w2"]) == {"w2"}
    assert find_ends(graph, []) == set()
