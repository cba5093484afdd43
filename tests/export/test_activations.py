"""Rounded values are rounded for all who read them, in subgraphs too."""

import numpy as np
import pytest

from toolchain.export import verify, write_model
from toolchain.export.layers import time_dense

EIGHT = tuple(range(-127, 128))
INPUT = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 4, 8, 8] x, bool c) => (float[N, 4, 8, 8] y, float[N, 4, 8, 8] z) {
  [n] y = Conv <pads = [1, 1, 1, 1]> (x, w)
  z = If (c) <
    then_branch = one () => (float[N, 4, 8, 8] t) { t = Identity (x) },
    else_branch = other () => (float[N, 4, 8, 8] e) { e = Neg (x) }
  >
}
"""
BOUND = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 4, 8, 8] x, bool c) => (float[N, 4, 8, 8] z) {
  [n] y = Conv <pads = [1, 1, 1, 1]> (x, w)
  z = If (c) <
    then_branch = one () => (float[N, 4, 8, 8] t) { t = Relu (y) },
    else_branch = other () => (float[N, 4, 8, 8] e) { e = Neg (x) }
  >
}
"""
NESTED = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 4, 8, 8] x, bool c) => (float[N, 4, 8, 8] y, float[N, 4, 8, 8] z) {
  [n] y = Conv <pads = [1, 1, 1, 1]> (x, w)
  z = If (c) <
    then_branch = one () => (float[N, 4, 8, 8] t) {
      t = If (c) <
        then_branch = inner () => (float[N, 4, 8, 8] u) { u = Abs (x) },
        else_branch = else () => (float[N, 4, 8, 8] v) { v = Identity (x) }
      >
    },
    else_branch = other () => (float[N, 4, 8, 8] e) { e = Neg (x) }
  >
}
"""


@pytest.mark.parametrize("chosen", [True, False])
@pytest.mark.parametrize("text", [INPUT, BOUND, NESTED], ids=["input", "bound in a subgraph", "nested"])
def test_subgraphs_read_rounded_values(build, compress, calibrate, text, chosen):
    module = build(text, {"w": (4, 4, 3, 3)})
    compress(module, 1.0, EIGHT)
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 4, 8, 8)).astype(np.float32), "c": np.array(chosen)}
    calibrate(module, {"n": "int8"}, feeds)
    parity = verify(write_model(module, {"n": "int8"}).proto.SerializeToString(), module, [feeds])
    assert parity.max_abs_error <= 0.1 * parity.tolerance


LSTMS = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[5, N, 8] x) => (float[5, N, 4] y, float[1, N, 4] h, float[1, N, 4] k) {
  [n] y = MatMul (x, w)
  , h = LSTM <hidden_size = 4> (x, a, b)
  , k = LSTM <hidden_size = 4> (x, c, d)
}
"""


def test_nodes_without_a_first_output_are_told_apart(build, compress, calibrate):
    module = build(LSTMS, {"w": (8, 4), "a": (1, 16, 8), "b": (1, 16, 4), "c": (1, 16, 8), "d": (1, 16, 4)})
    compress(module, 1.0, EIGHT)
    feeds = {"x": np.random.default_rng(0).standard_normal((5, 2, 8)).astype(np.float32)}
    calibrate(module, {"n": "int8"}, feeds)
    parity = verify(write_model(module, {"n": "int8"}).proto.SerializeToString(), module, [feeds])
    assert parity.max_abs_error <= 0.1 * parity.tolerance
    assert time_dense(module, ["a", "c"], feeds, threads=1).keys() == {"a", "c"}
