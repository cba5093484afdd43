"""Inner names and defaults go where they are a noticeable part of the file, and nothing else changes."""

from collections.abc import Mapping

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from toolchain.export.folding import optimized_graph
from toolchain.export.lean import shorten
from toolchain.export.sessions import open_session

NET = """
<ir_version: 8, opset_import: ["" : 17], producer_name: "me", metadata_props: ["owner": "us"]>
net (float[N, 1, 8, 8] image) => (float[N, 3] logits)
  <float[3] last_bias = {1, 2, 3}> {
  [first_convolution] features = Conv <auto_pad = "NOTSET", dilations = [1, 1], group = 1, kernel_shape = [3, 3],
    pads = [0, 0, 0, 0], strides = [1, 1]> (image, conv_weight)
  [first_pooling] pooled = MaxPool <ceil_mode = 0, kernel_shape = [2, 2], pads = [0, 0, 0, 0], strides = [2, 2]>
    (features)
  [flat] flattened = Flatten <axis = 1> (pooled)
  [last] logits = Gemm <alpha = 1.0, beta = 1.0, transA = 0, transB = 1> (flattened, last_weight, last_bias)
}
"""
FEEDS = {"image": np.random.default_rng(1).standard_normal((2, 1, 8, 8)).astype(np.float32)}


SHAPES = {"conv_weight": (2, 1, 3, 3), "last_weight": (3, 18)}


def model(text: str = NET, padding: int = 0, shapes: Mapping[str, tuple[int, ...]] = SHAPES) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    arrays |= {"unused": np.ones(padding, np.float32)} if padding else {}
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    return proto


def run(proto: onnx.ModelProto) -> np.ndarray:
    found: np.ndarray = open_session(proto, threads=1).run(None, FEEDS)[0]
    return found


def test_a_small_model_loses_inner_names_and_defaults_and_says_so():
    proto = model()
    before = proto.SerializeToString()
    short, note = shorten(proto, FEEDS)
    assert "of so small a file" in note
    assert proto.SerializeToString() == before
    assert short.ByteSize() < 0.75 * len(before)
    onnx.checker.check_model(short)
    assert run(short).tobytes() == run(proto).tobytes()
    assert not any(node.name for node in short.graph.node)
    assert [[item.name for item in node.attribute] for node in short.graph.node] == [
        [],
        ["kernel_shape", "strides"],
        [],
        ["transB"],
    ]


def test_inputs_outputs_order_and_metadata_stay():
    proto = model()
    short, _ = shorten(proto, FEEDS)
    assert short.graph.input == proto.graph.input
    assert short.graph.output == proto.graph.output
    assert [node.op_type for node in short.graph.node] == [node.op_type for node in proto.graph.node]
    assert short.metadata_props == proto.metadata_props
    assert short.producer_name == "me"
    assert short.graph.node[0].input[0] == "image"
    assert short.graph.node[-1].output[0] == "logits"


def test_where_names_are_a_small_part_of_the_file_they_stay():
    proto = model(padding=10_000)
    short, note = shorten(proto, FEEDS)
    assert short is proto
    assert not note


def test_short_names_do_not_collide_with_those_of_inputs_and_outputs():
    text = NET.replace("image", "a").replace("logits", "b")
    proto = model(text)
    short, note = shorten(proto, {"a": FEEDS["image"]})
    assert note
    names = [name for node in short.graph.node for name in node.output]
    assert len(set(names) | {"a"}) == len(names) + 1


@pytest.mark.parametrize(
    ("attribute", "kept"), [("pads = [1, 1, 1, 1]", True), ("strides = [2, 2]", True), ("dilations = [1, 1]", False)]
)
def test_only_what_equals_the_default_is_left_out(attribute, kept):
    text = f"""
    <ir_version: 8, opset_import: ["" : 17]>
    net (float[N, 1, 8, 8] image) => (float[N, 2, a, b] y) {{
      [node_with_a_long_name] y = Conv <{attribute}, kernel_shape = [3, 3]> (image, a_weight_with_a_long_name)
    }}
    """
    proto = model(text, shapes={"a_weight_with_a_long_name": (2, 1, 3, 3)})
    short, _ = shorten(proto, FEEDS)
    assert [item.name for item in short.graph.node[0].attribute] == ([attribute.split()[0]] if kept else [])
    assert run(short).tobytes() == run(proto).tobytes()


def test_equal_constants_are_held_once_whatever_they_were_before():
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    net (float[N, 1, 8, 8] image) => (float[M] y)
      <int64[2] shape_with_a_long_name = {-1, 64}, float[1] ones_with_a_long_name = {1}> {
      shape_of_a_node = Constant <value = int64[2] {-1, 64}> ()
      flat_with_a_long_name = Reshape (image, shape_of_a_node)
      same_with_a_long_name = Reshape (flat_with_a_long_name, shape_with_a_long_name)
      scalar_of_a_node = Constant <value_float = 2.0> ()
      twice_with_a_long_name = Mul (same_with_a_long_name, scalar_of_a_node)
      axes_of_a_node = Constant <value = int64[1] {1}> ()
      sum_with_a_long_name = ReduceSum <keepdims = 0> (twice_with_a_long_name, axes_of_a_node)
      y = Add (sum_with_a_long_name, ones_with_a_long_name)
    }
    """
    proto = model(text, shapes={})
    short, note = shorten(proto, FEEDS)
    assert note
    assert len(short.graph.initializer) == 4
    assert not any(node.op_type == "Constant" for node in short.graph.node)
    assert run(short).tobytes() == run(proto).tobytes()
    onnx.checker.check_model(short)


SHAPED = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 1, 8, 8] image) => (float[N, M, K] y)
  <int64 batch_axis = {0}, int64[1] first = {0}, int64[2] rest = {-1, 4}, float[4] shift = {1, 2, 3, 4},
   float[N, 1, 8, 8] features_with_a_long_name> {
  sizes_with_a_long_name = Shape (image)
  sizes_that_are_not_propagated = Abs (sizes_with_a_long_name)
  features_with_a_long_name = Reshape (image, sizes_that_are_not_propagated)
  batch_size_with_a_long_name = Gather (sizes_with_a_long_name, batch_axis)
  batch_sizes_with_a_long_name = Unsqueeze (batch_size_with_a_long_name, first)
  new_shape_with_a_long_name = Concat <axis = 0> (batch_sizes_with_a_long_name, rest)
  rows_with_a_long_name = Reshape (features_with_a_long_name, new_shape_with_a_long_name)
  y = Add (rows_with_a_long_name, shift)
}
"""


def test_shapes_of_inner_values_stay_where_the_runtime_needs_them():
    proto = model(SHAPED, shapes={})
    short, note = shorten(proto, FEEDS)
    assert note
    assert [item.type for item in short.graph.value_info] == [item.type for item in proto.graph.value_info]
    assert short.graph.value_info[0].name == short.graph.node[2].output[0]
    assert len(optimized_graph(short).node) == len(optimized_graph(proto).node)
    short.graph.ClearField("value_info")
    assert len(optimized_graph(short).node) > len(optimized_graph(proto).node)


def test_a_model_with_subgraphs_keeps_its_names():
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    net (float[N] image, bool condition_with_a_long_name) => (float[N] y) {
      inner_value_with_a_long_name = Relu (image)
      [choice] y = If (condition_with_a_long_name)
        <then_branch = t () => (float[N] a) { a = Identity (inner_value_with_a_long_name) },
         else_branch = e () => (float[N] b) { b = Neg (inner_value_with_a_long_name) }>
    }
    """
    proto = onnx.parser.parse_model(text)
    feeds = {"image": np.ones(2, np.float32), "condition_with_a_long_name": np.array(True)}
    assert shorten(proto, feeds)[0] is proto
