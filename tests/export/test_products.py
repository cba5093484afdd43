"""Biases of integer nodes lie on the steps that their kernels add, so that the module computes what the file does."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from toolchain.errors import ExportError
from toolchain.export import add_rescalings, move_biases_onto_steps, write_model
from toolchain.export.products import bias_steps, product_of
from toolchain.export.sessions import open_session
from toolchain.formats import Grid, TensorFormat

FOUR = tuple(range(-7, 8))
HEAD = '<ir_version: 8, opset_import: ["" : 17]> net (float[N, 4, 9, 9] x) => (float[N, 8, 7, 7] y) '
PLAIN = HEAD + "{ [n] c = Conv (x, w, k) y = Relu (c) }"
NORMALIZED = HEAD + (
    "<float[8] v = {0.5, 1, 2, 3, 4, 5, 6, 7}> "
    "{ [n] c = Conv (x, w, k) [m] r = BatchNormalization (c, s, b, m, v) y = Relu (r) }"
)
CASES = {
    "a bias": (PLAIN, {"w": (8, 4, 3, 3), "k": (8,)}),
    "a normalization": (NORMALIZED, {"w": (8, 4, 3, 3), "k": (8,), "s": (8,), "b": (8,), "m": (8,)}),
}
BATCH = {"x": np.random.default_rng(7).standard_normal((20, 4, 9, 9)).astype(np.float32)}
INT8 = {"n": "int8"}


def differing(module, kernels=INT8):
    """Return the part of the outputs that file and module round to different levels."""
    session = open_session(write_model(module, kernels).proto.SerializeToString(), threads=1)
    (got,) = session.run(None, BATCH)
    with torch.no_grad():
        expected = module(BATCH)["y"].numpy()
    return (np.abs(got - expected) > 1e-5).mean()


@pytest.mark.parametrize("case", CASES)
def test_the_module_then_rounds_as_the_file_does(build, compress, calibrate, case):
    module = build(*CASES[case])
    compress(module, 1.0, FOUR)
    calibrate(module, INT8, BATCH)
    assert differing(module) > 2e-3

    move_biases_onto_steps(module, INT8)

    assert differing(module) <= 2e-4  # a value half way between two levels

    add_rescalings(module, INT8)

    assert differing(module) == 0


LAYERS = {
    "depthwise": (
        HEAD + "{ [n] c = Conv <group = 4> (x, w, k) y = Clip (c, low, high) }",
        {"w": (8, 1, 3, 3), "k": (8,), "low": (), "high": ()},
    ),
    "read as it is": (HEAD + "{ [n] y = Conv (x, w) }", {"w": (8, 4, 3, 3)}),
    "two Gemms": (
        '<ir_version: 8, opset_import: ["" : 17]> net (float[N, 4, 9, 9] x) => (float[N, 5] y) '
        "{ f = Flatten (x) [n] a = Gemm <transB = 1> (f, w, k) b = Relu (a) [m] y = Gemm <transB = 1> (b, v) }",
        {"w": (16, 324), "k": (16,), "v": (5, 16)},
    ),
}


@pytest.mark.parametrize("case", LAYERS)
def test_whatever_makes_the_sums_they_are_rounded_alike(build, compress, calibrate, case):
    text, shapes = LAYERS[case]
    module = build(text, shapes)
    kernels = {"n": "int8", "m": "int8"} if "[m]" in text else INT8
    with torch.no_grad():
        for name, bound in {"low": -1.5, "high": 2.0}.items():
            if name in shapes:
                module.tensor(name).fill_(bound)
    compress(module, 0.6, FOUR)
    calibrate(module, kernels, BATCH)
    move_biases_onto_steps(module, kernels)
    add_rescalings(module, kernels)
    assert differing(module, kernels) == 0


@pytest.mark.parametrize("case", CASES)
def test_biases_move_by_half_a_step_at_most_and_then_stay(build, compress, calibrate, case):
    module = build(*CASES[case])
    compress(module, 1.0, FOUR)
    calibrate(module, INT8, BATCH)
    node, step = module.graph.nodes[0], module.formats["x"].grid.scale.item()
    before = product_of(module, module.graph, node, step)

    move_biases_onto_steps(module, INT8)

    after = product_of(module, module.graph, node, step)
    unit = step * before.scale.astype(np.float64)
    assert (np.abs(after.bias - before.bias) <= 0.5001 * unit).all()
    assert np.allclose(after.bias / unit, bias_steps(node, before, step), atol=1e-2)


def test_biases_of_float_nodes_stay(build, compress, calibrate):
    module = build(*CASES["a bias"])
    compress(module, 1.0, FOUR)
    calibrate(module, INT8, BATCH)
    before = module.tensor("k").clone()

    move_biases_onto_steps(module, {"n": "float"})

    assert torch.equal(module.tensor("k"), before)


def test_a_bias_of_too_many_steps_of_one_scale_is_an_error_that_names_the_node(build, compress, calibrate):
    module = build(*CASES["a bias"])
    compress(module, 1.0, FOUR)
    with torch.no_grad():
        module.formats["w"] = TensorFormat(grid=Grid(FOUR, torch.tensor(0.2)))
        module.tensor("w").copy_(module.formats["w"].project(module.tensor("w")))
        module.tensor("k").fill_(1e12)
    calibrate(module, INT8, BATCH)

    with pytest.raises(ExportError, match=r"Conv node 'n': bias 'k' is .* steps"):
        move_biases_onto_steps(module, INT8)


@pytest.mark.parametrize("size", [0.0, 1e-12])
def test_what_is_left_of_a_dead_channel_takes_no_integers_from_the_others(build, compress, calibrate, size):
    module = build(*CASES["a bias"])
    with torch.no_grad():
        module.tensor("w")[2] *= size
    compress(module, 1.0, FOUR)
    with torch.no_grad():  # finer than any step that the fixture gives
        grid = module.formats["w"].grid
        scale = torch.where(torch.arange(8) == 2, 1e-14, grid.scale)
        module.formats["w"] = TensorFormat(grid=replace(grid, scale=scale))
        module.tensor("w").copy_(module.formats["w"].project(module.tensor("w")))
    calibrate(module, INT8, BATCH)
    move_biases_onto_steps(module, INT8)
    assert differing(module) <= 2e-4
