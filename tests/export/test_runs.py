"""Values between quantized nodes stay integers."""

import numpy as np
import pytest

from toolchain.export import activation_values, check_folded, verify, write_model
from toolchain.export.folding import optimized_graph
from toolchain.export.runs import rounded_values

EIGHT = tuple(range(-127, 128))
HEAD = '<ir_version: 8, opset_import: ["" : 17]> net (float[N, 8, 8, 8] x) => (float[N, 8, H, W] y) '
PARAMETERS = "<int64[8] p = {0, 0, 1, 1, 0, 0, 1, 1}, float[4] t = {1.0, 1.0, 2.0, 2.0}> "
FIRST = "{ [n] a = Conv <pads = [1, 1, 1, 1]> (x, w) [k] b = Conv <pads = [1, 1, 1, 1]> (x, v) "
LAST = " [m] y = Conv <pads = [1, 1, 1, 1]> (z, u) }"
SHAPES = {"w": (8, 8, 3, 3), "v": (8, 8, 3, 3), "u": (8, 8, 3, 3)}
KERNELS = {"n": "int8", "k": "int8", "m": "int8"}
BATCH = {"x": np.random.default_rng(7).standard_normal((3, 8, 8, 8)).astype(np.float32)}
CURVES = "s = Sigmoid (a) r = LeakyRelu (b) c = Concat <axis = 1> (s, r)"

RUNS = {
    "addition": ("s = Add (a, b) z = Relu (s)", "QLinearAdd"),
    "concatenation": ("z = Concat <axis = 2> (a, b)", "QLinearConcat"),
    "average": ("s = Add (a, b) z = AveragePool <kernel_shape = [2, 2]> (s)", "QLinearAveragePool"),
    "maximum": ("s = Add (a, b) z = MaxPool <kernel_shape = [2, 2]> (s)", "NhwcMaxPool"),
    "resize": ('s = Add (a, b) z = Resize <mode = "nearest"> (s, , t)', "Resize"),
    "padding": ("s = Add (a, b) z = Pad (s, p)", "Pad"),
    "multiplication": ("z = Mul (a, b)", "QLinearMul"),
    "transposition": ("s = Mul (a, b) z = Transpose <perm = [0, 1, 3, 2]> (s)", "Transpose"),
    "blocks to channels": ("s = Add (a, b) z = SpaceToDepth <blocksize = 2> (s)", "SpaceToDepth"),
    "channels to blocks": ("s = Add (a, b) z = DepthToSpace <blocksize = 2> (s)", "DepthToSpace"),
    "sigmoid": (f"{CURVES} z = MaxPool <kernel_shape = [2, 2]> (c)", "QLinearSigmoid"),
    "leaky relu": (f"{CURVES} z = Identity (c)", "QLinearLeakyRelu"),
}
CHANNELS = {"blocks to channels": 32, "channels to blocks": 2, "sigmoid": 16, "leaky relu": 16}  # that "m" reads


@pytest.mark.parametrize("name", RUNS)
def test_a_run_has_no_value_in_float_between_its_first_and_its_last_node(build, compress, calibrate, name):
    text, operator = RUNS[name]
    module = build(HEAD + PARAMETERS + FIRST + text + LAST, {**SHAPES, "u": (8, CHANNELS.get(name, 8), 3, 3)})
    compress(module, 1.0, EIGHT)
    calibrate(module, KERNELS, BATCH)
    assert operator in operators_of_a_run(module)


def test_a_run_goes_through_a_flatten_to_a_matrix_product(build, compress, calibrate):
    text = HEAD.replace("float[N, 8, H, W] y", "float[N, 4] y") + FIRST + "s = Add (a, b) z = Flatten (s) "
    module = build(text + "[m] y = Gemm (z, u) }", {**SHAPES, "u": (512, 4)})
    compress(module, 1.0, EIGHT)
    calibrate(module, KERNELS, BATCH)
    assert {"Flatten", "QGemm"} <= operators_of_a_run(module)


def operators_of_a_run(module):
    """Return what the runtime executes; the model's results are right, and float only where it begins and ends."""
    data = write_model(module, KERNELS).proto.SerializeToString()
    check_folded(data)
    operators = [node.op_type for node in optimized_graph(data).node]
    assert operators.count("QuantizeLinear") == 1
    assert operators.count("DequantizeLinear") <= 1  # none where the last product makes float itself
    parity = verify(data, module, [BATCH])
    assert parity.max_abs_error <= 0.3 * parity.tolerance
    return set(operators)


def test_moved_values_and_parts_of_a_concatenation_share_a_grid(build):
    text = "c = Concat <axis = 2> (a, b) z = MaxPool <kernel_shape = [2, 2]> (c)"
    graph = build(HEAD + FIRST + text + LAST, SHAPES).graph
    assert rounded_values(graph, KERNELS) == {"x": "x", "a": "c", "b": "c", "c": "c", "z": "c", "y": "y"}
    assert activation_values(graph, KERNELS) == ("x", "c", "y")


def test_a_part_of_a_concatenation_that_others_read_keeps_its_own_grid(build):
    text = "c = Concat <axis = 2> (a, b) d = Add (a, b) e = Concat <axis = 2> (c, d) z = Identity (e)"
    graph = build(HEAD + FIRST + text + LAST, SHAPES).graph
    sources = rounded_values(graph, KERNELS)
    assert {name for name, source in sources.items() if name == source} == {"x", "a", "b", "e", "y"}
    assert sources["c"] == sources["d"] == sources["z"] == "e"


def test_what_comes_from_float_nodes_stays_float_up_to_the_quantized_node(build):
    graph = build(HEAD + FIRST + "s = Exp (a) d = Add (s, b) z = Relu (d)" + LAST, SHAPES).graph
    assert rounded_values(graph, KERNELS).keys() == {"x", "a", "b", "z", "y"}
