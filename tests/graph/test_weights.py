import onnx.parser

from toolchain.graph import find_weights, load_graph
from toolchain.module import OnnxModule

MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 1, 4, 4] x) => (float[N, 2, 4, 4] y)
  <float[1, 1, 1, 1] one = {2}, float[2, 1, 1, 1] two = {1, 3}> {
  h = Conv(x, one)
  y = Conv(h, two)
}
"""


def test_a_single_number_is_no_weight_matrix_and_says_so():
    graph = load_graph(onnx.parser.parse_model(MODEL))
    reasons = {weight.name: weight.reason for weight in find_weights(graph)}
    assert reasons == {"one": "a single number", "two": ""}


def test_every_weight_that_can_be_compressed_trains():
    graph = load_graph(onnx.parser.parse_model(MODEL))
    assert {weight.name for weight in find_weights(graph) if not weight.reason} <= set(OnnxModule(graph).weights())
