"""Groups of channels run as integer convolutions, on levels from the first of them to the last."""

import numpy as np
import pytest
import torch

from passes.constraints import Budget, TopK
from toolchain.errors import ExportError
from toolchain.export import (
    activation_values,
    add_rescalings,
    check_folded,
    move_biases_onto_steps,
    verify,
    write_model,
)
from toolchain.export.folding import optimized_graph
from toolchain.formats import Grid, TensorFormat
from toolchain.graph import find_weights
from toolchain.graph.layout import find_layouts
from toolchain.structures import parse_structure

EIGHT = tuple(range(-127, 128))
HEAD = '<ir_version: 8, opset_import: ["" : 17]> net '
CONV = (
    HEAD
    + "(float[N, 64, 9, 9] x) => (float[N, 64, 5, 5] y) "
    + "{ [n] y = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w, b) }"
)
RELU = HEAD + "(float[N, 64, 9, 9] x) => (float[N, 64, 7, 7] y) { [n] c = Conv (x, w, b) y = Relu (c) }"
PLAIN = HEAD + "(float[N, 64, 9, 9] x) => (float[N, 64, 7, 7] y) { [n] y = Conv (x, w) }"
LINE = HEAD + '(float[N, 64, 9] x) => (float[N, 64, 9] y) { [n] y = Conv <auto_pad = "SAME_UPPER"> (x, w, b) }'
NORMALIZED = HEAD + (
    "(float[N, 64, 9, 9] x) => (float[N, 64, 7, 7] y) "
    "{ [n] c = Conv (x, w) d = BatchNormalization (c, g, h, m, v) y = Relu (d) }"
)
SQUARE = (64, 64, 3, 3)
IMAGE = (3, 64, 9, 9)
CASES = {
    "stride": (CONV, {"w": SQUARE, "b": (64,)}, IMAGE),
    "relu": (RELU, {"w": SQUARE, "b": (64,)}, IMAGE),
    "no bias": (PLAIN, {"w": SQUARE}, IMAGE),
    "line": (LINE, {"w": (64, 64, 3), "b": (64,)}, (2, 64, 9)),
    "normalized": (NORMALIZED, {"w": SQUARE, "g": (64,), "h": (64,), "m": (64,), "v": (64,)}, IMAGE),
}

BLOCK = HEAD + (
    "(float[N, 64, 9, 9] x) => (float[N, 64, 9, 9] y) { [a] c = Conv (x, w, b) d = Relu (c) "
    "[k] e = Conv <pads = [1, 1, 1, 1]> (d, v, p) f = Relu (e) [m] g = Conv (f, u) s = Add (g, x) r = Relu (s) "
    "[o] y = Conv (r, q) }"
)
POINT = (64, 64, 1, 1)
BLOCK_SHAPES = {"w": POINT, "b": (64,), "v": SQUARE, "p": (64,), "u": POINT, "q": POINT}
PRUNED = ("w", "v", "u", "q")
ALL = dict.fromkeys(("a", "k", "m", "o"), "gathered_int8")


def batch(shape):
    return {"x": np.random.default_rng(7).standard_normal(shape).astype(np.float32)}


def prune(module, names, structure="groups", kept=0.25, levels=EIGHT):
    """Put the weights into the structure and on a grid."""
    layouts = find_layouts(module.graph, find_weights(module.graph))
    for name in names:
        weight = module.tensor(name)
        budget = Budget((name,), round(kept * weight.numel()), parse_structure(structure))
        mask = TopK((budget,), layouts={name: layouts[name]}).fit({name: weight.detach()}, {}, {})[name].mask
        grid = None
        if levels is not None:
            others = list(range(1, weight.ndim))
            grid = Grid(levels, weight.detach().abs().amax(others) / levels[-1], axis=0)
        module.formats[name] = TensorFormat(mask, grid)
        with torch.no_grad():
            weight.copy_(module.formats[name].project(weight))


def write_and_judge(module, kernels, feed, steps):
    """Return what is written; its results are the module's to ``steps`` of the tolerance, and no node decodes."""
    written = write_model(module, kernels)
    data = written.proto.SerializeToString()
    check_folded(data)
    parity = verify(data, module, [feed])
    assert max(item.max_abs_error / item.tolerance for item in parity.outputs) <= steps
    return written


def kinds(written):
    return [node.op_type for node in optimized_graph(written.proto.SerializeToString()).node]


@pytest.mark.parametrize("levels", [EIGHT, (-2, -1, 1, 2)], ids=["8 bit", "2 bit"])
@pytest.mark.parametrize("structure", ["groups", "column"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_groups_run_as_integer_convolutions_and_give_the_modules_results(build, calibrate, case, structure, levels):
    text, shapes, feed = case
    module = build(text, shapes)
    with torch.no_grad():
        if "v" in shapes:
            module.tensor("v").abs_().add_(0.1)
        if structure == "column":
            module.tensor("w")[:, 1::2] *= 1e-3  # whole channels, not single kernel positions
    prune(module, ("w",), structure, 0.25 if structure == "groups" else 0.45, levels)
    kernels = {"n": "gathered_int8"}
    calibrate(module, kernels, batch(feed))
    written = write_and_judge(module, kernels, batch(feed), 0.2)  # a step of the output at most
    assert written.tensors["w"].kernel == "gathered_int8"
    found = kinds(written)
    assert found.count("QLinearConv") == (4 if structure == "groups" else 1)
    assert not {"Conv", "Relu", "BatchNormalization"} & set(found)
    assert found.count("QuantizeLinear") == found.count("DequantizeLinear") == 1


def test_what_only_groups_read_is_made_in_their_order_and_no_further(build, calibrate):
    module = build(BLOCK, BLOCK_SHAPES)
    prune(module, PRUNED)
    calibrate(module, ALL, batch(IMAGE))
    assert activation_values(module.graph, ALL) == ("x", "d", "f", "g", "r", "y")
    written = write_and_judge(module, ALL, batch(IMAGE), 0.3)
    found = kinds(written)
    assert found.count("QuantizeLinear") == found.count("DequantizeLinear") == 1
    assert not {"Relu", "Add"} & set(found)
    assert found.count("Gather") == 4 * 4 + 2  # in front of every group, and behind those of m and o


def test_outputs_that_no_group_reads_are_left_out(build, calibrate):
    module = build(BLOCK, BLOCK_SHAPES | {"w": (128, 64, 1, 1), "b": (128,), "v": (64, 128, 3, 3)})
    with torch.no_grad():
        module.tensor("v")[:, ::2] *= 1e-3
    prune(module, PRUNED)
    calibrate(module, ALL, batch(IMAGE))
    written = write_and_judge(module, ALL, batch(IMAGE), 0.3)
    (weight,) = [item for item in written.proto.graph.initializer if item.name == "w"]
    read = module.tensor("v").detach().flatten(2).any(2).any(0)
    assert int(read.sum()) <= weight.dims[0] < 128


@pytest.mark.parametrize("other", ["int8", "float", "gathered"])
@pytest.mark.parametrize("place", ["a", "k", "m"])
def test_other_kernels_around_read_and_make_the_same_values(build, calibrate, place, other):
    module = build(BLOCK, BLOCK_SHAPES)
    prune(module, PRUNED)
    kernels = ALL | {place: other}
    calibrate(module, kernels, batch(IMAGE))
    written = write_and_judge(module, kernels, batch(IMAGE), 0.3)
    if other == "int8":
        found = kinds(written)
        assert found.count("QuantizeLinear") == found.count("DequantizeLinear") == 1


@pytest.mark.parametrize("last", ["gathered_int8", "int8", "float"])
def test_maxima_are_taken_before_channels_are_put_back(build, calibrate, last):
    text = HEAD + (
        "(float[N, 64, 9, 9] x) => (float[N, 64, 4, 4] y) { [a] c = Conv (x, w, b) d = Relu (c) "
        "e = MaxPool <kernel_shape = [3, 3], strides = [2, 2]> (d) [m] y = Conv (e, u) }"
    )
    module = build(text, {"w": POINT, "b": (64,), "u": POINT})
    prune(module, ("w", "u"))
    kernels = {"a": "gathered_int8", "m": last}
    calibrate(module, kernels, batch(IMAGE))
    written = write_and_judge(module, kernels, batch(IMAGE), 0.2)
    assert "NhwcMaxPool" in kinds(written)


def test_a_value_that_is_an_output_too_keeps_its_order(build, calibrate):
    module = build(BLOCK.replace("9] y)", "9] y, float[N, 64, 9, 9] d)"), BLOCK_SHAPES)
    prune(module, PRUNED)
    calibrate(module, ALL, batch(IMAGE))
    write_and_judge(module, ALL, batch(IMAGE), 0.3)


@pytest.mark.parametrize("bounds", ["0.0, 6.0", "-0.25, 6.0", "0.25, 0.5"])
def test_bounds_hold_whether_the_grid_implies_them_or_not(build, calibrate, bounds):
    low, high = bounds.split(", ")
    text = HEAD + (
        f"(float[N, 64, 9, 9] x) => (float[N, 64, 9, 9] y) <float l = {{{low}}}, float t = {{{high}}}> "
        "{ [a] c = Conv (x, w, b) d = Clip (c, l, t) [m] y = Conv (d, u) }"
    )
    module = build(text, {"w": POINT, "b": (64,), "u": POINT})
    prune(module, ("w", "u"))
    kernels = dict.fromkeys(("a", "m"), "gathered_int8")
    calibrate(module, kernels, batch(IMAGE))
    written = write_and_judge(module, kernels, batch(IMAGE), 0.2)
    assert ("Clip" in kinds(written)) == (low == "0.25")


@pytest.mark.parametrize("bounds", ["c, , t", "c, l"])
def test_a_bound_may_be_left_out(build, calibrate, bounds):
    text = HEAD + (
        "(float[N, 64, 9, 9] x) => (float[N, 64, 9, 9] y) <float l = {-0.25}, float t = {1.0}> "
        f"{{ [a] c = Conv (x, w, b) d = Clip ({bounds}) [m] y = Conv (d, u) }}"
    )
    module = build(text, {"w": POINT, "b": (64,), "u": POINT})
    prune(module, ("w", "u"))
    kernels = dict.fromkeys(("a", "m"), "gathered_int8")
    calibrate(module, kernels, batch(IMAGE))
    written = write_and_judge(module, kernels, batch(IMAGE), 0.2)
    assert "Clip" not in kinds(written)


def test_zero_points_of_a_weight_are_taken_out(build, calibrate):
    module = build(RELU, {"w": SQUARE, "b": (64,)})
    prune(module, ("w",), levels=None)
    weight = module.tensor("w").detach()
    low, high = weight.amin((1, 2, 3)), weight.amax((1, 2, 3))
    zero = (-low / (high - low) * 15).round().to(torch.int32)
    found = TensorFormat(module.formats["w"].mask, Grid(tuple(range(16)), (high - low) / 15, zero, axis=0))
    with torch.no_grad():
        module.tensor("w").copy_(found.project(weight))
    module.formats["w"] = found
    calibrate(module, {"n": "gathered_int8"}, batch(IMAGE))
    write_and_judge(module, {"n": "gathered_int8"}, batch(IMAGE), 0.2)


@pytest.mark.parametrize(
    ("text", "levels", "reason"),
    [
        (RELU, None, "its weight is on no grid"),
        (
            HEAD + "(float[N, 64] x) => (float[N, 64] y) { [n] y = Gemm <transB = 1> (x, w) }",
            EIGHT,
            "there are no gathered channels in int8 for Gemm",
        ),
        (
            HEAD + "(float[N, 64, 9, 9] x) => (float[N, 64, 5, 5] y) { [n] c = Conv (x, w) y = Conv (c, w) }",
            EIGHT,
            "its weight is shared with other nodes",
        ),
    ],
)
def test_a_node_that_cannot_says_why(build, text, levels, reason):
    shapes = {"w": (64, 64) if "Gemm" in text else SQUARE} | ({"b": (64,)} if "b)" in text else {})
    module = build(text, shapes)
    prune(module, ("w",), levels=levels)
    with pytest.raises(ExportError, match=reason):
        write_model(module, {"n": "gathered_int8"})


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_once_biases_and_sums_are_rounded_as_the_kernel_does_the_module_has_the_same_levels(build, calibrate, case):
    text, shapes, feed = case
    module = build(text, shapes)
    if "v" in shapes:
        with torch.no_grad():
            module.tensor("v").abs_()
    kernels = {"n": "gathered_int8"}
    prune(module, ["w"], levels=(-2, -1, 1, 2))
    calibrate(module, kernels, batch(feed))
    move_biases_onto_steps(module, kernels)
    add_rescalings(module, kernels)
    parity = verify(write_model(module, kernels).proto.SerializeToString(), module, [batch(feed)])
    assert parity.max_abs_error < 1e-6 * parity.tolerance
