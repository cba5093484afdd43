"""Verification accepts what agrees and names the first value that does not."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from calibration.observers import make_grid
from toolchain.errors import ExportError
from toolchain.export import verify, write_model
from toolchain.export.parity import TOLERANCES
from toolchain.formats import TensorFormat

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 8] x) => (float[N, 8] y, float[N, 8] z) {
  [first] h = MatMul (x, w1)
  [act] r = Relu (h)
  [second] y = MatMul (r, w2)
  [third] z = Relu (y)
}
"""
SHAPES = {"w1": (8, 8), "w2": (8, 8)}


def batch(seed: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).standard_normal((4, 8)).astype(np.float32)}


def spoiled(proto: onnx.ModelProto, name: str) -> bytes:
    for tensor in proto.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.1), name))
    return proto.SerializeToString()


def test_a_true_copy_is_within_a_tight_tolerance(build, tmp_path):
    module = build(TEXT, SHAPES)
    path = tmp_path / "model.onnx"
    path.write_bytes(write_model(module, {}).proto.SerializeToString())
    parity = verify(path, module, [batch(1), batch(2)])
    assert [item.name for item in parity.outputs] == ["y", "z"]
    assert parity.max_abs_error < 0.01 * parity.tolerance


@pytest.mark.parametrize(("name", "value", "node"), [("w1", "h", "first"), ("w2", "y", "second")])
def test_the_first_diverging_value_is_named(build, name, value, node):
    module = build(TEXT, SHAPES)
    data = spoiled(write_model(module, {}).proto, name)
    with pytest.raises(ExportError, match=f"first value that diverges is '{value}', made by MatMul node '{node}'"):
        verify(data, module, [batch(1)])


@pytest.mark.parametrize(("end", "passes"), [("y = Identity(p)", True), ("y = Mul(p, p)", False)])
def test_probabilities_near_zero_are_held_against_the_range_of_probabilities(build, end, passes):
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
        net (float[N, 8] x) => (float[N, 8] y) {{ h = MatMul (x, w)  l = Add(h, b)  p = Sigmoid(l)  {end} }}"""
    module = build(text, {"w": (8, 8), "b": (8,)})
    with torch.no_grad():
        module.tensor("w").zero_()
        module.tensor("b").fill_(-9.0)
        proto = write_model(module, {}).proto
        module.tensor("b").add_(0.01)  # a probability of 1e-4 that is off by 1 %
    if passes:
        verify(proto.SerializeToString(), module, [batch(1)])
    else:
        with pytest.raises(ExportError, match="is off by"):
            verify(proto.SerializeToString(), module, [batch(1)])


def test_floats_may_carry_roundings_far_where_every_node_agrees_by_itself(build, monkeypatch):
    monkeypatch.setitem(TOLERANCES, "float", -1.0)
    module = build(TEXT, SHAPES)
    proto = write_model(module, {}).proto
    parity = verify(proto.SerializeToString(), module, [batch(1)])
    assert parity.judged == "node by node"
    assert parity.max_abs_error < parity.tolerance
    with pytest.raises(ExportError, match="made by MatMul node 'second'"):
        verify(spoiled(proto, "w2"), module, [batch(1)])


def test_nan_is_never_within_the_tolerance(build):
    module = build(TEXT, SHAPES)
    proto = write_model(module, {}).proto
    broken = numpy_helper.to_array(proto.graph.initializer[1]).copy()
    broken[0, 0] = np.nan
    proto.graph.initializer[1].CopyFrom(numpy_helper.from_array(broken, "w2"))
    with pytest.raises(ExportError, match="'y'"):
        verify(proto.SerializeToString(), module, [batch(1)])


def test_the_module_keeps_its_mode(build):
    module = build(TEXT, SHAPES)
    module.train()
    verify(write_model(module, {}).proto.SerializeToString(), module, [batch(1)])
    assert module.training


def test_a_quantized_file_is_judged_node_by_node_where_roundings_add_up(build, monkeypatch):
    module = build(TEXT, SHAPES)
    data = write_model(module, {}).proto.SerializeToString()
    monkeypatch.setattr("toolchain.export.parity._loosest_kernel", lambda _: "int8")
    assert verify(data, module, [batch(1)]).judged == "end to end"
    monkeypatch.setitem(TOLERANCES, "int8", 0.0)  # as if the roundings of all layers had added up to more
    parity = verify(data, module, [batch(1)])
    assert parity.judged == "node by node"
    assert parity.max_abs_error <= parity.tolerance


def test_a_wrong_node_of_a_quantized_file_is_found_on_the_values_of_the_runtime(build, monkeypatch):
    module = build(TEXT, SHAPES)
    data = spoiled(write_model(module, {}).proto, "w2")
    monkeypatch.setattr("toolchain.export.parity._loosest_kernel", lambda _: "int8")
    monkeypatch.setitem(TOLERANCES, "int8", 0.0)
    with pytest.raises(ExportError, match="first value that diverges is 'y'"):
        verify(data, module, [batch(1)])


CLIPPED = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 4, 8, 8] x) => (float[N, 4, 8, 8] y) {
  [a] c = Conv <pads = [1, 1, 1, 1]> (x, w)
  [relu] r = Relu (c)
  [b] y = Conv <pads = [1, 1, 1, 1]> (r, v)
}
"""


def test_a_grid_that_clips_is_no_divergence(build, compress, calibrate, monkeypatch):
    module = build(CLIPPED, {"w": (4, 4, 3, 3), "v": (4, 4, 3, 3)})
    compress(module, 1.0, tuple(range(-127, 128)))
    kernels, feed = {"a": "int8", "b": "int8"}, np.random.default_rng(1).standard_normal((4, 4, 8, 8))
    images = {"x": feed.astype(np.float32)}
    calibrate(module, kernels, images)
    largest = module.run(images, ["r"])["r"].max().item()
    module.formats["r"] = TensorFormat(grid=make_grid(0.0, 0.9 * largest))
    data = write_model(module, kernels).proto.SerializeToString()
    monkeypatch.setitem(TOLERANCES, "int8", -1.0)  # as if the roundings of all layers had added up to more
    assert verify(data, module, [images]).judged == "node by node"


PLACES = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 8] x) => (float[N, 8] y, int64[N] c, int64[2, M] p) {
  [first] y = MatMul (x, w1)
  [which] c = ArgMax <axis = 1, keepdims = 0> (y)
  t = Greater (y, limit)
  [where] p = NonZero (t)
}
"""


def tipped(build):
    """Return a file, a module of weights that are next to the same, and inputs of which these make another class."""
    module = build(PLACES, {"w1": (8, 8), "limit": ()})
    with torch.no_grad():
        module.tensor("w1").copy_(torch.eye(8))
        module.tensor("limit").fill_(1.00015)
        data = write_model(module, {}).proto.SerializeToString()
        module.tensor("w1")[0, 0] = 1.0002
    return data, module, {"x": np.array([[1, 1.0001, 0, 0, 0, 0, 0, 0]], np.float32)}


def test_of_integers_and_of_other_shapes_the_nodes_decide(build):
    data, module, feeds = tipped(build)
    y, c, p = verify(data, module, [feeds]).outputs
    assert y.max_abs_error <= y.tolerance
    assert (c.max_abs_error > 0, c.tolerance) == (True, None)
    assert (p.max_abs_error, p.tolerance) == (None, None)


def test_infinities_that_agree_are_no_difference(build):
    text = TEXT.replace("[third] z = Relu (y)", "[low] n = Less (y, zero) [third] z = Where (n, least, y)")
    module = build(text, SHAPES | {"zero": (), "least": ()})
    with torch.no_grad():
        module.tensor("zero").zero_()
        module.tensor("least").fill_(-torch.inf)
    assert verify(write_model(module, {}).proto.SerializeToString(), module, [batch(1)]).judged == "end to end"


def test_a_fault_that_shows_late_is_found_after_roundings_that_were_carried_far(build, monkeypatch):
    module = build(TEXT, SHAPES)
    proto = write_model(module, {}).proto
    monkeypatch.setitem(TOLERANCES, "float", -1.0)
    found = spoiled(proto, "w2")
    quiet = {"x": np.zeros((4, 8), np.float32)}  # on which nothing shows
    with pytest.raises(ExportError, match="made by MatMul node 'second'"):
        verify(found, module, [quiet, batch(1)])
