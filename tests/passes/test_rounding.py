import numpy as np
import onnx.parser
import torch

from passes.rounding import round_biases
from toolchain.formats import Grid, TensorFormat
from toolchain.graph import load_graph
from toolchain.module import OnnxModule

TWO_LAYERS = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 2] x) => (float[N, 2] y)
  <float[2, 2] w1 = {1, -1, 1, 1}, float[2] b1 = {0.1, 70000}, float[2, 2] w2 = {1, -1, 1, 1},
   float[2] b2 = {0.1, 0.2}, float[2, 2] w3 = {1, -1, 1, 1}, float[2] b3 = {0.1, 0.3}> {
  h = Gemm(x, w1, b1)
  i = Gemm(h, w2, b2)
  y = Gemm(i, w3, b3)
}
"""


def test_only_biases_of_quantized_layers_that_fit_float16_are_rounded():
    module = OnnxModule(load_graph(onnx.parser.parse_model(TWO_LAYERS)))
    for name in ("w1", "w2"):
        module.formats[name] = TensorFormat(grid=Grid((-1, 1), torch.tensor(1.0)))
    assert round_biases(module) == ("b2",)
    assert module.tensor("b1").tolist() == [np.float32(0.1), 70000.0]
    assert module.tensor("b2").tolist() == [np.float16(0.1), np.float16(0.2)]
    assert module.tensor("b3").tolist() == [np.float32(0.1), np.float32(0.3)]


NORMALIZED = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 1, 4, 4] x) => (float[N, 2, 4, 4] y)
  <float[2, 1, 1, 1] w = {1, -1}, float[2] s = {0.1, 0.2}, float[2] b = {0.3, 1000.1}, float[2] m = {0.1, 100000},
   float[2] v = {0.1, 0.0000001}> {
  h = Conv(x, w)
  i = BatchNormalization(h, s, b, m, v)
  y = BatchNormalization(i, s, b, m, v)
}
"""


def test_vectors_of_a_normalization_behind_a_quantized_layer_are_rounded_where_float16_is_precise():
    module = OnnxModule(load_graph(onnx.parser.parse_model(NORMALIZED)))
    assert round_biases(module) == ()
    module.formats["w"] = TensorFormat(grid=Grid((-1, 1), torch.tensor(1.0)))
    assert round_biases(module) == ("s", "b")
    assert module.tensor("s").tolist() == [np.float16(0.1), np.float16(0.2)]
    assert module.tensor("m").tolist() == [np.float32(0.1), 100000.0]
    assert module.tensor("v").tolist() == [np.float32(0.1), np.float32(1e-7)]
