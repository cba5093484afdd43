"""Constants that nodes compute become values where that is smaller, and only there."""

import numpy as np
import onnx
import onnx.parser
import pytest

from toolchain.export.constants import fold_small
from toolchain.export.sessions import open_session

FEEDS = {"x": np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3)}


def folded(body: str, constants: str = "", opset: int = 17) -> onnx.ModelProto:
    """Return the model after folding; it must compute what it computed before."""
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {opset}]> net (float[a, b, c, d] x) => (float[e, f, g, h] y) {constants} '
        f"{{ {body} }}"
    )
    expected = open_session(proto, threads=1).run(None, FEEDS)[0]
    fold_small(proto)
    onnx.checker.check_model(proto)
    assert open_session(proto, threads=1).run(None, FEEDS)[0].tobytes() == expected.tobytes()
    return proto


def operators(proto: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


PADDING = """
  zeros = ConstantOfShape <value = int64[1] {0}> (four)
  both = Concat <axis = 0> (before, zeros)
  pairs = Reshape (both, two_columns)
  sorted = Transpose <perm = [1, 0]> (pairs)
  pads = Reshape (sorted, flat)
  y = Pad (x, pads)
"""
NUMBERS = "<int64[1] four = {4}, int64[4] before = {0, 1, 1, 0}, int64[2] two_columns = {4, 2}, int64[1] flat = {-1}>"


def test_shape_arithmetic_of_an_exporter_becomes_one_initializer():
    proto = folded(PADDING, NUMBERS)
    assert operators(proto) == ["Pad"]
    assert [item.name for item in proto.graph.initializer] == ["pads"]


def test_constants_that_other_nodes_use_stay():
    proto = folded("moved = ReduceSum (x, flat)" + PADDING.replace("Pad (x,", "Pad (moved,"), NUMBERS)
    assert operators(proto) == ["ReduceSum", "Pad"]
    assert [item.name for item in proto.graph.initializer] == ["flat", "pads"]


@pytest.mark.parametrize(
    ("size", "kept"),
    [("1, 1, 2, 3", False), ("5, 5, 2, 3", True), ("8, 8, 2, 3", True)],  # 6 numbers, 150 and more than are looked at
)
def test_values_of_more_bytes_than_their_nodes_stay_computed(size, kept):
    proto = folded(
        "ones = ConstantOfShape <value = float[1] {1}> (size) y = Add (x, ones)", f"<int64[4] size = {{{size}}}>"
    )
    assert operators(proto) == (["ConstantOfShape"] if kept else []) + ["Add"]


def test_levels_and_their_scale_stay_apart_and_random_numbers_random():
    constants = "<int8[1] levels = {3}, float steps = {0.5}, float[1] zero = {0}>"
    proto = folded("bias = DequantizeLinear (levels, steps) y = Add (x, bias)", constants)
    assert operators(proto) == ["DequantizeLinear", "Add"]
    noise = "noise = RandomNormalLike <seed = 1.0> (zero) none = Mul (noise, zero) y = Add (x, none)"
    assert operators(folded(noise, constants)) == ["RandomNormalLike", "Mul", "Add"]


def test_what_cannot_be_computed_alone_stays():
    body = "doubled = Add (numbers, numbers) y = Add (x, doubled)"
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> net (float[1] x) => (float[1] y) {{ {body} }}'
    )
    proto.graph.initializer.append(onnx.helper.make_tensor("numbers", onnx.TensorProto.BFLOAT16, [1], [1.0]))
    before = proto.SerializeToString()
    fold_small(proto)
    assert proto.SerializeToString() == before
