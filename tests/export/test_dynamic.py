"""Products of integers whose input is rounded by the range that it has in each run."""

import numpy as np
import onnx
import pytest
import torch

from toolchain.errors import ExportError
from toolchain.export import Wish, check_folded, choose_kernels, could_be_int8, verify, write_model
from toolchain.export.folding import optimized_graph
from toolchain.export.sessions import open_session
from toolchain.formats import Grid, TensorFormat

PRUNED = (-2, -1, 1, 2)
EIGHT = tuple(range(-127, 128))
HEAD = '<ir_version: 8, opset_import: ["" : 13]> net '
CASES = {
    "matmul": (HEAD + "(float[N, 5, 96] x) => (float[N, 5, 24] y) { [n] y = MatMul (x, w) }", {"w": (96, 24)}),
    "gemm": (HEAD + "(float[N, 96] x) => (float[N, 24] y) { [n] y = Gemm (x, w, b) }", {"w": (96, 24), "b": (24,)}),
    "turned": (
        HEAD + "(float[N, 96] x) => (float[N, 24] y) { [n] y = Gemm <transB = 1> (x, w, b) }",
        {"w": (24, 96), "b": (24,)},
    ),
}


def feed(case, rows=3):
    shape = (rows, 5, 96) if case == "matmul" else (rows, 96)
    return {"x": np.random.default_rng(4).standard_normal(shape).astype(np.float32)}


@pytest.mark.parametrize(("kept", "levels"), [(0.2, PRUNED), (1.0, (-1, 1)), (1.0, EIGHT)])
@pytest.mark.parametrize("case", CASES)
def test_the_runtime_makes_one_integer_product_of_the_nodes(build, compress, case, kept, levels):
    module = build(*CASES[case])
    compress(module, kept, levels)
    written = write_model(module, {"n": "dynamic"})
    data = written.proto.SerializeToString()
    check_folded(data)
    assert written.tensors["w"].kernel == "dynamic"
    assert {node.domain for node in written.proto.graph.node} == {""}
    assert "DynamicQuantizeMatMul" in [node.op_type for node in optimized_graph(data).node]
    verify(data, module, [feed(case)])


@pytest.mark.parametrize("factor", [1e-3, 1e4])
def test_inputs_of_any_range_are_rounded_as_finely(build, compress, factor):
    module = build(*CASES["gemm"][:1], {"w": (96, 24), "b": (24,)})
    compress(module, 1.0, EIGHT)
    with torch.no_grad():
        module.tensor("b").zero_()
    session = open_session(write_model(module, {"n": "dynamic"}).proto, threads=1)
    x = factor * feed("gemm")["x"]
    expected = module({"x": x})["y"].detach().numpy()
    assert np.abs(session.run(None, {"x": x})[0] - expected).max() < 0.02 * np.abs(expected).max()


@pytest.mark.parametrize("case", CASES)
def test_the_module_rounds_as_the_runtime_does(build, compress, calibrate, case):
    module = build(*CASES[case])
    compress(module, 1.0, EIGHT)
    batch = feed(case)
    float_outputs = module(batch)["y"].detach().numpy()
    calibrate(module, {"n": "dynamic"}, batch)
    written = write_model(module, {"n": "dynamic"}).proto
    (got,) = open_session(written, threads=1).run(None, batch)
    expected = module(batch)["y"].detach().numpy()
    assert np.abs(got - expected).max() < 1e-5 * np.abs(expected).max() < np.abs(got - float_outputs).max()
    verify(written.SerializeToString(), module, [batch])


def test_what_others_read_as_it_is_has_no_format_of_its_own(build, compress, calibrate):
    text = HEAD + "(float[N, 96] x) => (float[N, 96] z, float[N, 24] y) { [n] y = MatMul (x, w)  z = Relu(x) }"
    module = build(text, {"w": (96, 24)})
    compress(module, 1.0, EIGHT)
    calibrate(module, {"n": "dynamic"}, feed("gemm"))
    assert "x" not in module.formats


def test_a_weight_whose_zero_points_differ_is_stored_by_its_levels(build):
    module = build(*CASES["turned"])
    weight = module.tensor("w")
    zero = torch.arange(24, dtype=torch.int32) % 3 + 6
    grid = Grid(tuple(range(16)), weight.detach().abs().amax(1) / 6, zero, axis=0)
    module.formats["w"] = TensorFormat(grid=grid)
    with torch.no_grad():
        weight.copy_(module.formats["w"].project(weight))
    verify(write_model(module, {"n": "dynamic"}).proto.SerializeToString(), module, [feed("turned")])


def test_convolutions_and_nodes_that_turn_a_shared_weight_are_refused(build, compress):
    conv = build(HEAD + "(float[N, 4, 8, 8] x) => (float[N, 8, 8, 8] y) { [n] y = Conv (x, w) }", {"w": (8, 4, 1, 1)})
    compress(conv, 1.0, EIGHT)
    with pytest.raises(ExportError, match="there is no dynamic int8 Conv"):
        write_model(conv, {"n": "dynamic"})
    both = "(float[N, 24] x) => (float[N, 24] y) { [n] z = MatMul (x, w)  [m] y = Gemm <transB = 1> (z, w) }"
    shared = build(HEAD + both, {"w": (24, 24)})
    scale = shared.tensor("w").detach().abs().max() / 127
    shared.formats["w"] = TensorFormat(grid=Grid(EIGHT, scale))
    with torch.no_grad():
        shared.tensor("w").copy_(shared.formats["w"].project(shared.tensor("w")))
    with pytest.raises(ExportError, match="read it in different directions"):
        write_model(shared, {"n": "dynamic", "m": "dynamic"})


def test_dynamic_activations_rule_out_ranges_of_calibration(build, compress):
    module = build(*CASES["gemm"])
    compress(module, 1.0, EIGHT)
    wish = Wish("dynamic", activations="dynamic")
    assert could_be_int8(module, wish) == could_be_int8(module, Wish(activations="dynamic")) == ()
    assert choose_kernels(module, feed("gemm"), wish)["n"].kernel == "dynamic"
    refused = choose_kernels(module, feed("gemm"), Wish("int8", activations="dynamic"))["n"]
    assert (refused.kernel, "range in every run" in refused.reason) == ("float", True)


def test_the_bytes_of_a_weight_are_those_that_the_file_grows_by(build, compress):
    module = build(*CASES["turned"][:1], {"w": (512, 96), "b": (512,)})
    compress(module, 1.0, EIGHT)
    written = write_model(module, {"n": "dynamic"})
    bare = onnx.ModelProto()
    bare.CopyFrom(module.graph.proto)
    bare.graph.initializer.remove(next(item for item in bare.graph.initializer if item.name == "w"))
    grown = written.proto.ByteSize() - bare.ByteSize()
    assert 0 <= grown - written.tensors["w"].bytes < 300  # of the nodes around the product
