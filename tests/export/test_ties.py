"""File and module round the results of 8-bit arithmetic alike."""

import numpy as np
import onnx
import pytest
import torch

from toolchain.export.sessions import open_session
from toolchain.export.ties import avoid_ties
from toolchain.formats import Grid

EIGHT = tuple(range(256))
KERNELS = {"n": "int8", "k": "int8", "m": "int8"}
HEAD = '<ir_version: 8, opset_import: ["" : 17]> net (float[N, 4, 8, 8] x) => (float[N, 4, 8, 8] y) '
BODY = "{ [n] a = Conv (x, w) [k] b = Conv (x, v) %s [m] y = Conv (z, u) }"
SHAPES = {"w": (4, 4, 1, 1), "v": (4, 4, 1, 1), "u": (4, 4, 1, 1)}


def grids_of(first, second, output, zero):
    scales = {"x": 1.0, "a": first, "b": second, "z": output, "y": 1.0}
    zeros = {"a": zero, "b": 0}
    return {name: Grid(EIGHT, torch.tensor(scale), zeros.get(name, 0)) for name, scale in scales.items()}


def levels_in_the_runtime(operator, grids):
    """Return the levels that ONNX Runtime's integer operator makes of every pair of levels, ``[256, 256]``."""
    text = f"""<ir_version: 8, opset_import: ["" : 17]> g (uint8[256, 1] p, uint8[1, 256] q) => (uint8[256, 256] r) {{
        a = DequantizeLinear (p, sa, za) b = DequantizeLinear (q, sb, zb)
        z = {operator} (a, b) r = QuantizeLinear (z, sz, zz) }}"""
    proto = onnx.parser.parse_model(text)
    for name in "abz":
        grid = grids[name]
        proto.graph.initializer.append(onnx.numpy_helper.from_array(grid.scale.numpy(), f"s{name}"))
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(grid.zero_point, np.uint8), f"z{name}"))
    levels = np.arange(256, dtype=np.uint8)
    (found,) = open_session(proto, threads=1).run(None, {"p": levels[:, None], "q": levels[None]})
    return found


def levels_in_the_module(operator, grids):
    levels = torch.arange(256)
    first, second = grids["a"].dequantize(levels[:, None]), grids["b"].dequantize(levels[None])
    return grids["z"].quantize(first + second if operator == "Add" else first * second).numpy()


# The first has every odd sum on a border; the others are as observers find them.
SCALES = [
    (12 / 255, 24 / 255, 8 / 255, 128),
    (1.0, 1.0, 2.0, 0),
    (0.034656510, 0.027573440, 0.025560725, 117),
    (0.3, 0.1, 0.2, 3),
]


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize(("operator", "text"), [("Add", "s = Add (a, b) z = Relu (s)"), ("Mul", "z = Mul (a, b)")])
def test_every_pair_of_levels_has_one_result(build, operator, text, scales):
    graph = build(HEAD + BODY % text, SHAPES).graph
    before = grids_of(*scales)
    grids = avoid_ties(graph, KERNELS, before)
    np.testing.assert_array_equal(levels_in_the_runtime(operator, grids), levels_in_the_module(operator, grids))
    assert 1 <= float(grids["z"].scale / before["z"].scale) < 1.02
    assert all(grids[name] is before[name] for name in "xaby")


def test_without_it_results_differ():
    grids = grids_of(*SCALES[2])
    assert (levels_in_the_runtime("Add", grids) != levels_in_the_module("Add", grids)).any()
