"""Integer kernels compute what the module computes, and run where they are asked to."""

import numpy as np
import onnx
import pytest
import torch

from toolchain.errors import ExportError
from toolchain.export import activation_values, check_folded, verify, write_model
from toolchain.export.folding import optimized_graph
from toolchain.export.sessions import open_session

PRUNED = (-2, -1, 1, 2)
EIGHT = tuple(range(-127, 128))

HEAD = '<ir_version: 8, opset_import: ["" : 17]> net '
CONV = HEAD + "(float[N, 4, 9, 9] x) => (float[N, 8, 9, 9] y) { [n] y = Conv <pads = [1, 1, 1, 1]> (x, w, b) }"
NO_BIAS = HEAD + "(float[N, 4, 9, 9] x) => (float[N, 8, 9, 9] y) { [n] y = Conv <pads = [1, 1, 1, 1]> (x, w) }"
GROUPS = HEAD + "(float[N, 4, 9, 9] x) => (float[N, 8, 7, 7] y) { [n] y = Conv <group = 2> (x, w, b) }"
RELU = HEAD + "(float[N, 4, 9, 9] x) => (float[N, 8, 7, 7] y) { [n] c = Conv (x, w, b) y = Relu (c) }"
GEMM = HEAD + "(float[N, 100] x) => (float[N, 24] y) { [n] y = Gemm (x, w, b) }"
GEMM_T = HEAD + "(float[N, 100] x) => (float[N, 24] y) { [n] y = Gemm <transB = 1> (x, w, b) }"
GEMM_PLAIN = HEAD + "(float[N, 100] x) => (float[N, 24] y) { [n] y = Gemm <transB = 1> (x, w) }"
MATMUL = HEAD + "(float[N, 100] x) => (float[N, 24] y) { [n] y = MatMul (x, w) }"
BATCHED = HEAD + "(float[N, 3, 100] x) => (float[N, 3, 24] y) { [n] y = MatMul (x, w) }"
SCALED = HEAD + "(float[N, 100] x) => (float[N, 24] y) { [n] y = Gemm <alpha = 2.0> (x, w, b) }"

IMAGE = (5, 4, 9, 9)
INT8 = [
    (CONV, {"w": (8, 4, 3, 3), "b": (8,)}, IMAGE, "QLinearConv"),
    (NO_BIAS, {"w": (8, 4, 3, 3)}, IMAGE, "QLinearConv"),
    (GROUPS, {"w": (8, 2, 3, 3), "b": (8,)}, IMAGE, "QLinearConv"),
    (RELU, {"w": (8, 4, 3, 3), "b": (8,)}, IMAGE, "QLinearConv"),
    (GEMM, {"w": (100, 24), "b": (24,)}, (5, 100), "QGemm"),
    (GEMM_T, {"w": (24, 100), "b": (24,)}, (5, 100), "QGemm"),
    (GEMM_PLAIN, {"w": (24, 100)}, (5, 100), "QGemm"),
    (MATMUL, {"w": (100, 24)}, (5, 100), "MatMulIntegerToFloat"),
    (BATCHED, {"w": (100, 24)}, (5, 3, 100), "MatMulIntegerToFloat"),
]
NBITS = [case[:3] for case in INT8[4:]]


def batch(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(7).standard_normal(shape).astype(np.float32)}


@pytest.mark.parametrize(("kept", "levels"), [(0.2, PRUNED), (1.0, EIGHT)])
@pytest.mark.parametrize("case", INT8)
def test_int8_nodes_run_as_the_runtimes_integer_operator(build, compress, calibrate, case, kept, levels):
    text, shapes, feed, operator = case
    module = build(text, shapes)
    compress(module, kept, levels)
    kernels = {"n": "int8"}
    calibrate(module, kernels, batch(feed))
    written = write_model(module, kernels)
    data = written.proto.SerializeToString()
    check_folded(data)
    operators = [node.op_type for node in optimized_graph(data).node]
    assert operator in operators
    assert not {"Conv", "Gemm", "MatMul", "Relu"} & set(operators)
    parity = verify(data, module, [batch(feed)])
    assert parity.max_abs_error <= 0.2 * parity.tolerance  # a step of the output at most
    assert written.tensors["w"].kernel == "int8"


@pytest.mark.parametrize(("kept", "levels"), [(0.2, PRUNED), (1.0, (-1, 1)), (1.0, EIGHT)])
@pytest.mark.parametrize("case", NBITS)
def test_nbits_nodes_run_as_matmulnbits(build, compress, case, kept, levels):
    text, shapes, feed = case
    module = build(text, shapes)
    compress(module, kept, levels)
    written = write_model(module, {"n": "nbits"})
    data = written.proto.SerializeToString()
    check_folded(data)
    assert [node.op_type for node in optimized_graph(data).node] == ["MatMulNBits"]
    assert written.proto.graph.node[-1].name == "n"
    verify(data, module, [batch(feed)])


@pytest.mark.parametrize("levels", [PRUNED, EIGHT], ids=["2 bit", "8 bit"])
@pytest.mark.parametrize(("sides", "bias"), [("9, 9", True), ("1, 1", True), ("9", False)])
def test_a_1x1_conv_runs_as_matmulnbits_with_channels_last(build, compress, sides, bias, levels):
    text = f"(float[N, 100, {sides}] x) => (float[N, 24, {sides}] y) {{ [n] y = Conv (x, w{', b' if bias else ''}) }}"
    sizes = [int(side) for side in sides.split(",")]
    module = build(HEAD + text, {"w": (24, 100, *[1] * len(sizes))} | ({"b": (24,)} if bias else {}))
    compress(module, 1.0, levels)
    data = write_model(module, {"n": "nbits"}).proto.SerializeToString()
    check_folded(data)
    operators = [node.op_type for node in optimized_graph(data).node]
    assert "MatMulNBits" in operators
    assert "Conv" not in operators
    verify(data, module, [batch((5, 100, *sizes))])


@pytest.mark.parametrize(
    ("attributes", "shape"),
    [("", (8, 4, 3, 3)), ("<strides = [2, 2]>", (8, 4, 1, 1)), ("<pads = [1, 1, 1, 1]>", (8, 4, 1, 1)),
     ("<group = 2>", (8, 2, 1, 1))],
)  # fmt: skip
def test_other_convolutions_do_not_run_as_matmulnbits(build, compress, attributes, shape):
    text = f"(float[N, 4, 9, 9] x) => (float[N, 8, a, b] y) {{ [n] y = Conv {attributes} (x, w) }}"
    module = build(HEAD + text, {"w": shape})
    compress(module, 1.0, PRUNED)
    with pytest.raises(ExportError, match="no MatMulNBits for Conv unless it is 1x1"):
        write_model(module, {"n": "nbits"})


def test_a_transposed_convolution_has_no_integer_kernel_on_the_cpu(build, compress):
    text = "(float[N, 4, 9, 9] x) => (float[N, 8, 11, 11] y) { [n] y = ConvTranspose (x, w) }"
    module = build(HEAD + text, {"w": (4, 8, 3, 3)})
    compress(module, 1.0, EIGHT)
    with pytest.raises(
        ExportError, match="'n' cannot run as int8: ONNX Runtime has no integer ConvTranspose on the CPU"
    ):
        write_model(module, {"n": "int8"})


def test_binary_nbits_weights_take_one_bit_each(build, compress):
    module = build(MATMUL.replace("100", "800").replace("24", "500"), {"w": (800, 500)})
    compress(module, 1.0, (-1, 1))
    assert (
        write_model(module, {"n": "nbits"}).tensors["w"].bytes < 1.05 * 800 * 500 / 8 + 2 * 500 + 800
    )  # of scales, nodes


@pytest.mark.parametrize("kernel", ["int8", "nbits"])
def test_a_scaled_gemm_is_refused_with_the_reason(build, compress, kernel):
    module = build(SCALED, {"w": (100, 24), "b": (24,)})
    compress(module, 0.2, PRUNED)
    with pytest.raises(ExportError, match=r"Gemm node 'n' cannot run as .*: alpha, beta or transA are set"):
        write_model(module, {"n": kernel})


@pytest.mark.parametrize("kernel", ["int8", "nbits"])
def test_a_weight_without_a_grid_is_refused(build, compress, kernel):
    module = build(MATMUL, {"w": (100, 24)})
    compress(module, 0.2, None)
    with pytest.raises(ExportError, match="on no grid"):
        write_model(module, {"n": kernel})


def test_int8_without_activation_formats_is_refused_with_a_hint(build, compress):
    module = build(CONV, {"w": (8, 4, 3, 3), "b": (8,)})
    compress(module, 0.2, PRUNED)
    with pytest.raises(ExportError, match="'x' has no 8-bit format") as caught:
        write_model(module, {"n": "int8"})
    assert "activation_values" in caught.value.hint


def test_a_changed_bias_of_an_int8_node_is_stored_once(build, compress, calibrate):
    module = build(CONV, {"w": (8, 4, 3, 3), "b": (8,)})
    compress(module, 0.2, PRUNED)
    module.tensor("b").data.mul_(2)
    kernels = {"n": "int8"}
    calibrate(module, kernels, batch(IMAGE))
    written = write_model(module, kernels)
    assert written.tensors["b"].kernel == "int8"
    verify(written.proto.SerializeToString(), module, [batch(IMAGE)])


def test_a_channel_without_weights_keeps_its_bias(build, compress, calibrate):
    module = build(GEMM_T, {"w": (24, 100), "b": (24,)})
    module.tensor("w").data[3] = 0
    compress(module, 0.2, PRUNED)
    module.formats["w"].grid.scale[3] = 2.0**-24
    kernels = {"n": "int8"}
    calibrate(module, kernels, batch((5, 100)))
    verify(write_model(module, kernels).proto.SerializeToString(), module, [batch((5, 100))])


def test_activation_values_are_inputs_and_the_output_after_a_relu(build):
    graph = build(RELU, {"w": (8, 4, 3, 3), "b": (8,)}).graph
    assert activation_values(graph, {"n": "int8"}) == ("x", "y")
    assert activation_values(graph, {"n": "float"}) == ()


def test_nodes_that_share_a_weight_must_agree(build, compress):
    text = HEAD + "(float[N, 64] x) => (float[N, 64] y) { [a] h = MatMul (x, w) [b] y = MatMul (h, w) }"
    module = build(text, {"w": (64, 64)})
    compress(module, 0.2, PRUNED)
    with pytest.raises(ExportError, match="share weight 'w'"):
        write_model(module, {"a": "nbits"})
    data = write_model(module, {"a": "nbits", "b": "nbits"}).proto.SerializeToString()
    verify(data, module, [batch((2, 64))])


MIXED = HEAD + (
    "(float[N, 4, 9, 9] x) => (float[N, 8, a, b] y) { [n] c = Conv (x, w, b) r = Relu (c) BETWEEN "
    "[m] d = Conv <group = 8> (p, v, a) q = Relu (d) [o] y = Conv (q, u) }"
)


@pytest.mark.parametrize("between", ["p = Identity (r)", "p = MaxPool <kernel_shape = [2, 2]> (r)"])
def test_a_float_node_between_integer_ones_keeps_its_weights_in_the_runtime(build, compress, calibrate, between):
    shapes = {"w": (8, 4, 3, 3), "b": (8,), "v": (8, 1, 3, 3), "a": (8,), "u": (8, 8, 1, 1)}
    module = build(MIXED.replace("BETWEEN", between), shapes)
    compress(module, 1.0, EIGHT)
    module.formats.pop("v")
    with torch.no_grad():  # one large value takes the precision of all others on a grid of one scale
        module.tensor("v")[0, 0, 0, 0] = 100.0
    kernels = {"n": "int8", "o": "int8"}
    calibrate(module, kernels, batch(IMAGE))
    proto = write_model(module, kernels).proto
    proto.graph.output.append(onnx.ValueInfoProto(name="d"))
    got = open_session(proto, threads=1).run(["d"], batch(IMAGE))[0]
    expected = module.run(batch(IMAGE), ["d"])["d"].detach().numpy()
    np.testing.assert_allclose(got[:, 1:], expected[:, 1:], atol=0.01 * np.abs(expected[:, 1:]).max())
