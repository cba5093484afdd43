"""Models and data that the whole job runs on in tests."""

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

CONVOLUTIONAL = """
<ir_version: 8, opset_import: ["" : 17]>
digits (float[N, 1, 8, 8] image) => (float[N, 4] logits)
  <float[8, 1, 3, 3] conv_weight, float[8] conv_bias, float[8] bn_scale, float[8] bn_bias, float[8] bn_mean,
   float[8] bn_var, float[4, 128] fc_weight, float[4] fc_bias> {
  c = Conv<pads = [1, 1, 1, 1]>(image, conv_weight, conv_bias)
  n = BatchNormalization(c, bn_scale, bn_bias, bn_mean, bn_var)
  r = Relu(n)
  p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(r)
  f = Flatten(p)
  logits = Gemm<transB = 1>(f, fc_weight, fc_bias)
}
"""
TWO_WAY = """
<ir_version: 8, opset_import: ["" : 17]>
two (float[N, 6] left, int64[N, 3] ids) => (float[N, 5] sum, float[N, 3, 4] words)
  <float[10, 4] table, float[6, 5] w, float[4, 4] v> {
  words0 = Gather(table, ids)
  words = MatMul(words0, v)
  sum = MatMul(left, w)
}
"""
WIDE = """
<ir_version: 8, opset_import: ["" : 17]>
wide (float[N, 128] x) => (float[N, 128] y)
  <float[128, 256] w1, float[256, 128] w2> {
  h = MatMul(x, w1)
  r = Relu(h)
  y = MatMul(r, w2)
}
"""
STREAMING = """
<ir_version: 8, opset_import: ["" : 17]>
stream (float[1, 6] frame, float[2, 1, 8] state, float gain) => (float[1, 4] out, float[2, 1, 8] next)
  <float[6, 8] w, float[8, 8] u, float[8, 4] v> {
  scaled = Mul(frame, gain)
  driven = MatMul(scaled, w)
  carried = MatMul(state, u)
  sum = Add(carried, driven)
  next = Tanh(sum)
  mean = ReduceMean<axes = [0], keepdims = 0>(next)
  out = MatMul(mean, v)
}
"""
BARE = """
<ir_version: 8, opset_import: ["" : 17]>
bare (float[N, 1, 8, 8] image) => (float[N, 4] logits)
  <float[8, 1, 3, 3] w1, float[8] b1, float[8, 8, 3, 3] w2, float[4, 128] w3> {
  c = Conv<pads = [1, 1, 1, 1]>(image, w1, b1)
  r = Relu(c)
  d = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(r, w2)
  s = Relu(d)
  f = Flatten(s)
  logits = Gemm<transB = 1>(f, w3)
}
"""
PARTLY_QUANTIZED = """
<ir_version: 8, opset_import: ["" : 17]>
partly (float[N, 1, 8, 8] image) => (float[N, 4] logits)
  <int8[2, 1, 2, 2] levels = {1, -2, 3, -4, 5, -6, 7, -8}, float step = {0.1}, int8 zero = {0},
   float[4, 32] fc_weight> {
  w = DequantizeLinear(levels, step, zero)
  c = Conv<strides = [2, 2]>(image, w)
  r = Relu(c)
  f = Flatten(r)
  logits = Gemm<transB = 1>(f, fc_weight)
}
"""
NESTED = """
<ir_version: 10, opset_import: ["" : 18, "lab" : 1]>
g (float[N, 16] x) => (float[N, 8] y) {
  zero = Constant<value = float {0.0}>()
  sum = ReduceSum<keepdims = 0>(x)
  up = Greater(sum, zero)
  a = lab.Dense(x, w0)
  h = If (up) <
    then_branch = p () => (float[N, 32] o) { m1 = MatMul(a, w1) o = Relu(m1) },
    else_branch = q () => (float[N, 32] o) { m2 = MatMul(a, w2) o = Neg(m2) }
  >
  n = Constant<value = int64 {2}>()
  go = Constant<value = bool {1}>()
  k = Loop (n, go, h) <
    body = b (int64 i, bool on, float[N, 32] s) => (bool still, float[N, 32] t) {
      still = Identity(on) m3 = MatMul(s, w3) t = Tanh(m3)
    }
  >
  y = MatMul(k, w4)
}
<domain: "lab", opset_import: ["" : 18]>
Dense (data, weight) => (out) { product = MatMul(data, weight) out = Relu(product) }
"""


def write(text, path):
    """Write a model whose declared values become random weights."""
    proto = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    declared = {info.name: info for info in proto.graph.value_info}
    for name, info in declared.items():
        shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        values = rng.normal(0, 0.4, shape).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(np.abs(values) + 0.5 if "var" in name else values, name))
    del proto.graph.value_info[:]
    onnx.save(proto, path)
    return path


def write_data(path, side=8, seed=1):
    """Write images of four classes that are easily told apart, 240 to train on and 60 to test."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, 300)
    x = rng.normal(0, 0.5, (300, 1, side, side)).astype(np.float32)
    for number, label in enumerate(y):
        x[number, 0, side // 4 * label : side // 4 * (label + 1)] += 2
    np.savez(path, x_train=x[:240], y_train=y[:240], x_test=x[240:], y_test=y[240:])
    return str(path)
