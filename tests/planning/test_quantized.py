import numpy as np
import onnx
import onnx.parser
import pytest

from toolchain.errors import RecipeError
from toolchain.graph import load_graph
from toolchain.planning.quantized import count_nodes, quantized_note, quantized_operators
from toolchain.planning.request import Request, read_request
from toolchain.planning.resolve import make_plan

INT8 = "int8[8, 4] w = {" + ", ".join(["1"] * 32) + "}"
SCALE = "float s = {0.1}, int8 z = {0}"

DYNAMIC = f"""
g (float[N, 8] x) => (float[N, 4] y) <{INT8}> {{
  q, s, z = DynamicQuantizeLinear(x)
  i = MatMulInteger(q, w, z)
  f = Cast<to = 1>(i)
  y = Mul(f, s)
}}
"""
BEHIND_DEQUANTIZE = f"""
g (float[N, 8] x) => (float[N, 4] y) <{INT8}, {SCALE}, float[4, 4] v> {{
  l = QuantizeLinear(x, s, z)
  r = DequantizeLinear(l, s, z)
  f = DequantizeLinear(w, s, z)
  h = MatMul(r, f)
  y = MatMul(h, v)
}}
"""
TRAINED_FOR_ROUNDING = f"""
g (float[N, 8] x) => (float[N, 4] y) <{SCALE}, float[8, 4] v> {{
  l = QuantizeLinear(v, s, z)
  f = DequantizeLinear(l, s, z)
  y = MatMul(x, f)
}}
"""
CONVOLUTION = """
g (uint8[N, 1, 4, 4] x) => (uint8[N, 1, 4, 4] y)
  <int8[1, 1, 1, 1] w = {3}, float s = {0.1}, uint8 z = {0}, int8 c = {0}> {
  y = QLinearConv(x, s, z, w, s, c, s, z)
}
"""
MATRIX = """
g (float[N, 16] x) => (float[N, 2] y) <uint8[2, 1, 8] w, float[2] s = {0.1, 0.2}, float[2, 2] v> {
  h = com.microsoft.MatMulNBits<K = 16, N = 2, bits = 4, block_size = 16>(x, w, s)
  y = MatMul(h, v)
}
"""
UNPACKED = """
g (float[N, 16] x) => (float[N, 2] y)
  <uint8[1, 2] f = {1, 16}, uint8[2, 16] planes, int64[3] shape = {2, 1, 8}, float[2] s = {0.1, 0.2}> {
  i = MatMulInteger(f, planes)
  u = Cast<to = 2>(i)
  w = Reshape(u, shape)
  y = com.microsoft.MatMulNBits<K = 16, N = 2, bits = 4, block_size = 16>(x, w, s)
}
"""
PLAIN = "g (float[N, 8] x) => (float[N, 4] y) <float[8, 4] v> { y = MatMul(x, v) }"


def graph_of(text):
    """Return the graph of ``text``, with zeros for the tensors that it only declares."""
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> {text}')
    for info in proto.graph.value_info:
        kind = onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(shape, kind), info.name))
    del proto.graph.value_info[:]
    return load_graph(proto)


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        (DYNAMIC, {"DynamicQuantizeLinear": 1, "MatMulInteger": 1}),
        (BEHIND_DEQUANTIZE, {"DequantizeLinear": 2, "QuantizeLinear": 1}),
        (TRAINED_FOR_ROUNDING, {"DequantizeLinear": 1}),
        (CONVOLUTION, {"QLinearConv": 1}),
        (MATRIX, {"MatMulNBits": 1}),
        (PLAIN, {}),
    ],
)
def test_quantized_operators_are_counted(text, counts):
    assert quantized_operators(graph_of(text)) == counts


def test_integer_products_that_only_unpack_a_tensor_at_load_are_not_counted():
    assert quantized_operators(graph_of(UNPACKED)) == {"MatMulNBits": 1}


def test_what_is_left_to_compress_is_told():
    assert quantized_note(graph_of(BEHIND_DEQUANTIZE)) == (
        "The model is quantized already, in 3 nodes (DequantizeLinear 2, QuantizeLinear 1). Weights of those are "
        "neither pruned nor quantized again; 1 float tensor with 16 weights can be."
    )
    assert quantized_note(graph_of(PLAIN)) == ""


@pytest.mark.parametrize("text", [BEHIND_DEQUANTIZE, MATRIX])
def test_only_float_weights_are_planned_for(text):
    plan = make_plan(graph_of(text), read_request(Request(quant="4bit")))
    assert plan.quantize.names == ("v",)


@pytest.mark.parametrize("text", [DYNAMIC, TRAINED_FOR_ROUNDING, CONVOLUTION, UNPACKED])
def test_where_nothing_is_left_the_float_model_is_asked_for(text):
    graph = graph_of(text)
    with pytest.raises(RecipeError, match=r"the model is quantized already, in \d node") as caught:
        make_plan(graph, read_request(Request(quant="4bit")))
    assert caught.value.hint == "give the float model that it was made from"


def test_one_node_is_no_plural():
    assert count_nodes({"QGemm": 1}) == "1 node (QGemm 1)"
    assert count_nodes({"QGemm": 2, "QLinearAdd": 1}) == "3 nodes (QGemm 2, QLinearAdd 1)"
