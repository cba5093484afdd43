"""The values inside of a file are held against the module's, and nothing is raised where they cannot be seen."""

import numpy as np
import pytest
from onnx import numpy_helper

from toolchain.errors import ExportError
from toolchain.export import differences, write_model
from toolchain.export.differences import NOT_SHARED, compare_tensors
from toolchain.export.folding import optimized_graph

EIGHT = tuple(range(-127, 128))
HEAD = '<ir_version: 8, opset_import: ["" : 17]> net '
TEXT = (
    HEAD
    + """(float[N, 3, 8, 8] x) => (float[N, 4] y, float[N, 16] q) {
  [first] a = Conv <pads = [1, 1, 1, 1]> (x, w)
  n = BatchNormalization (a, s, b, b, s)
  r = Relu (n)
  [second] c = Conv <strides = [4, 4]> (r, v)
  f = Flatten (c)
  [head] h = MatMul (f, u)
  q = Relu (h)
  [last] y = Gemm (q, t, o)
}
"""
)
SHAPES = {"w": (8, 3, 3, 3), "v": (8, 8, 3, 3), "u": (32, 16), "t": (16, 4), "o": (4,), "s": (8,), "b": (8,)}
BATCH = {"x": np.random.default_rng(7).standard_normal((4, 3, 8, 8)).astype(np.float32)}
INT8 = dict.fromkeys(("first", "second", "head", "last"), "int8")


@pytest.fixture
def make(build, compress, calibrate):
    """Return a function that makes a compressed module and its file, written with given kernels."""

    def made(kernels, packs=True):
        module = build(TEXT, SHAPES)
        module.tensor("s").data.abs_().add_(0.5)
        compress(module, 0.5, EIGHT)
        calibrate(module, kernels, BATCH)
        return module, write_model(module, kernels, packs).proto

    return made


def test_float_layers_are_compared_in_the_order_of_the_graph(make):
    module, proto = make({})
    found = compare_tensors(proto.SerializeToString(), module, BATCH)
    names = [(item.name, item.op) for item in found]
    assert names == [("a", "Conv"), ("c", "Conv"), ("h", "MatMul"), ("q", "Relu"), ("y", "Gemm")]
    assert all(item.max_abs_error < 1e-5 * item.magnitude and not item.reason for item in found)


@pytest.mark.parametrize("kernel", ["nbits", "dynamic"])
def test_what_kernels_round_on_their_own_is_compared_as_it_is_made(make, kernel):
    module, proto = make({"head": kernel, "last": kernel})
    found = compare_tensors(proto.SerializeToString(), module, BATCH)
    assert [item.name for item in found] == ["a", "c", "h", "q", "y"]
    assert all(item.max_abs_error < 1e-2 * item.magnitude for item in found)


def test_of_integer_layers_the_values_that_are_rounded_are_compared(make):
    module, proto = make(INT8)
    found = {item.name: item for item in compare_tensors(proto.SerializeToString(), module, BATCH)}
    assert {name: item.op for name, item in found.items()} == {"r": "Conv", "c": "Conv", "q": "MatMul", "y": "Gemm"}
    assert all(item.max_abs_error < 0.03 * item.magnitude for item in found.values())
    step = module.formats["r"].grid.scale.item()
    assert found["r"].max_abs_error < 1.01 * step


def test_layers_are_executed_in_integers_while_they_are_compared(make, monkeypatch):
    shown = []
    opened = differences.open_session
    monkeypatch.setattr(
        differences, "open_session", lambda proto, threads: shown.append(proto) or opened(proto, threads)
    )
    module, proto = make(INT8)
    compare_tensors(proto.SerializeToString(), module, BATCH)
    operators = [node.op_type for node in optimized_graph(shown[0].SerializeToString()).node]
    assert operators.count("QLinearConv") == 2
    assert not {"Conv", "Gemm", "MatMul", "Relu"} & set(operators)


@pytest.mark.parametrize("kernels", [{}, INT8], ids=["float", "int8"])
def test_a_wrong_scale_shows_at_the_first_value_that_it_touches(make, kernels):
    module, proto = make(kernels, packs=False)
    scale = behind_levels(proto, "v")
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(2), scale.name))
    found = compare_tensors(proto.SerializeToString(), module, BATCH)
    off = [item.name for item in found if item.max_abs_error > 0.1 * item.magnitude]
    assert off == ["c", *(("q", "y") if kernels else ("h", "q", "y"))]


def behind_levels(proto, weight):
    """Return the scale that the levels of a weight are multiplied by."""
    (maker,) = (node for node in proto.graph.node if weight in node.output)
    return next(tensor for tensor in proto.graph.initializer if tensor.name == maker.input[1])


BRANCHED = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 8] x, bool up) => (float16[N, 4] y) {
  h = MatMul (x, w)
  k = If (up) <
    then_branch = p () => (float[N, 4] o) { m = MatMul(h, u) o = Relu(m) },
    else_branch = q () => (float[N, 4] o) { o = Sigmoid(h) }
  >
  y = Cast <to = 10> (k)
}
"""


def test_what_lies_in_a_branch_is_named_with_the_reason_and_half_precision_is_compared(build, compress):
    module = build(BRANCHED, {"w": (8, 4), "u": (4, 4)})
    compress(module, 1.0, EIGHT)
    feeds = {"x": np.ones((3, 8), np.float32), "up": np.array(True)}
    found = compare_tensors(write_model(module, {}).proto.SerializeToString(), module, feeds)
    assert [(item.name, item.op, item.reason) for item in found] == [
        ("h", "MatMul", ""),
        ("m", "MatMul", NOT_SHARED),
        ("y", "Cast", ""),
    ]
    assert found[1].max_abs_error is None
    assert found[2].max_abs_error <= 1e-3 * found[2].magnitude


def test_what_is_not_finite_is_told_without_a_warning(build, compress):
    module = build(HEAD + "(float[N, 8] x) => (float[N, 4] y) { h = MatMul (x, w) y = Sigmoid (h) }", {"w": (8, 4)})
    compress(module, 1.0, EIGHT)
    feeds = {"x": np.full((3, 8), 3e38, np.float32)}
    found = compare_tensors(write_model(module, {}).proto.SerializeToString(), module, feeds)
    assert [item.name for item in found] == ["h", "y"]
    assert not np.isfinite(found[0].max_abs_error)


def test_a_file_that_does_not_run_with_more_outputs_is_no_error(make, monkeypatch):
    def refuse(*_):
        raise ExportError("it does not run")

    module, proto = make({})
    monkeypatch.setattr(differences, "run_outputs", refuse)
    found = compare_tensors(proto.SerializeToString(), module, BATCH)
    assert [(item.name, item.max_abs_error, item.reason) for item in found] == [
        (name, None, "it does not run") for name in ("a", "c", "h", "q", "y")
    ]
