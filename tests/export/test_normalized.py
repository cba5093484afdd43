"""A convolution takes in the normalization behind it, with the same integers."""

import numpy as np
import pytest

from toolchain.export import check_folded, verify, write_model
from toolchain.export.folding import optimized_graph
from toolchain.export.normalized import normalization_of

EIGHT = tuple(range(-127, 128))
HEAD = '<ir_version: 8, opset_import: ["" : 17]> net (float[N, 4, 9, 9] x) => (float[N, 8, 7, 7] y) '
BLOCK = HEAD + "{ [n] c = Conv (x, w) [m] r = BatchNormalization (c, s, b, m, v) y = Relu (r) }"
BIASED = HEAD + "{ [n] c = Conv (x, w, k) [m] y = BatchNormalization (c, s, b, m, v) }"
TWICE = HEAD + "{ [n] c = Conv (x, w) [m] r = BatchNormalization (c, s, b, m, v) y = Add (r, c) }"
SHAPES = {"w": (8, 4, 3, 3), "s": (8,), "b": (8,), "m": (8,)}
BATCH = {"x": np.random.default_rng(7).standard_normal((5, 4, 9, 9)).astype(np.float32)}


def with_variance(text, variance=None):
    values = variance or [0.5, 1, 2, 3, 4, 5, 6, 7]
    listed = ", ".join(str(float(value)) for value in values)
    return text.replace("=> (float[N, 8, 7, 7] y) ", f"=> (float[N, 8, 7, 7] y) <float[8] v = {{{listed}}}> ")


@pytest.mark.parametrize("case", [(BLOCK, SHAPES), (BIASED, {**SHAPES, "k": (8,)})])
def test_the_file_has_one_integer_convolution_and_computes_what_the_module_does(build, compress, calibrate, case):
    module = build(with_variance(case[0]), case[1])
    compress(module, 1.0, EIGHT)
    calibrate(module, {"n": "int8"}, BATCH)
    written = write_model(module, {"n": "int8"})
    data = written.proto.SerializeToString()
    check_folded(data)
    operators = [node.op_type for node in optimized_graph(data).node]
    assert "QLinearConv" in operators
    assert not {"Conv", "BatchNormalization", "Relu"} & set(operators)
    parity = verify(data, module, [BATCH])
    assert parity.max_abs_error <= 0.2 * parity.tolerance
    assert not {"s", "m", "v"} & {item.name for item in written.proto.graph.initializer}


def test_a_channel_that_the_normalization_multiplies_by_zero_is_its_shift(build, compress, calibrate):
    module = build(with_variance(BLOCK), SHAPES)
    module.tensor("s").data[3] = 0.0
    module.tensor("s").data[4] = 1e-30
    compress(module, 1.0, EIGHT)
    calibrate(module, {"n": "int8"}, BATCH)
    parity = verify(write_model(module, {"n": "int8"}).proto.SerializeToString(), module, [BATCH])
    assert parity.max_abs_error <= 0.2 * parity.tolerance


def test_what_others_read_as_well_is_left_as_it_is(build):
    module = build(with_variance(TWICE), SHAPES)
    assert normalization_of(module.graph, module.graph.consumers(), module.graph.nodes[0]) is None
