import subprocess
import sys

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
from encoding_cases import contents
from hypothesis import given, settings
from onnx import helper, numpy_helper

from calibration.observers import make_grid
from toolchain.errors import DataError, ExportError, ModelError
from toolchain.export import activation_formats, activation_values, check_folded, write_model
from toolchain.export.builder import Builder
from toolchain.export.encodings import ENCODINGS, Content, encode_pending, encode_smallest
from toolchain.formats import Grid, TensorFormat
from toolchain.graph import load_graph, save_proto
from toolchain.module import OnnxModule
from toolchain.unpacking import unpack, unpacked

NET = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[1, 32] x) => (float[1, 24] y) {
  h = Gemm<transB = 1>(x, a)
  r = Relu(h)
  y = Gemm<transB = 1>(r, b)
}
"""


def sparse_module():
    """Return a module of NET with 2-bit weights, a tenth of which is kept."""
    proto = onnx.parser.parse_model(NET)
    rng = np.random.default_rng(0)
    for name, shape in (("a", (64, 32)), ("b", (24, 64))):
        proto.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name))
    module = OnnxModule(load_graph(proto)).eval()
    with torch.no_grad():
        for name in ("a", "b"):
            weight = module.tensor(name)
            mask = torch.zeros(weight.numel(), dtype=torch.bool)
            mask[weight.abs().flatten().topk(round(0.1 * weight.numel())).indices] = True
            found = TensorFormat(mask.reshape(weight.shape), Grid((-2, -1, 1, 2), torch.tensor(1.0)))
            weight.copy_(found.project(weight))
            module.formats[name] = found
    return module


def write(path, module, kernel="float"):
    kernels = {node.name: kernel for node in module.graph.nodes if node.op == "Gemm"}
    grids = {name: make_grid(-4.0, 4.0) for name in activation_values(module.graph, kernels)}
    module.formats.update(activation_formats(module, kernels, grids))
    save_proto(write_model(module, kernels).proto, path)
    return path


@pytest.fixture
def packed(tmp_path):
    """Return the path of a small model of which everything is packed."""
    return write(tmp_path / "packed.onnx", sparse_module())


def constants(path):
    proto = onnx.load(path)
    return {item.name: numpy_helper.to_array(item) for item in proto.graph.initializer}


def test_the_plain_model_has_the_nodes_of_the_original_and_its_values(packed, tmp_path):
    done = unpack(packed, tmp_path / "plain.onnx")
    proto = onnx.load(done.path)
    assert [node.op_type for node in proto.graph.node] == ["Gemm", "Relu", "Gemm"]
    found = constants(done.path)
    assert found.keys() == {"a", "b"}
    assert {name: array.shape for name, array in found.items()} == {"a": (64, 32), "b": (24, 64)}
    assert np.count_nonzero(found["a"]) == round(0.1 * 64 * 32)
    assert (done.tensors, done.bytes) == (2, done.path.stat().st_size)


@settings(max_examples=30, deadline=None)
@given(content=contents())
@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda item: f"{item.encode.__module__}.{item.encode.__name__}")
def test_every_encoding_is_unpacked_to_one_initializer(encoding, content):
    builder = Builder("_")
    if not encoding.encode(builder, content, "w"):
        return
    kind = helper.np_dtype_to_tensor_dtype(content.array.dtype)
    value = helper.make_tensor_value_info("x", 1, [1])
    graph = helper.make_graph(
        [*builder.nodes, helper.make_node("Neg", ["x"], ["y"])],
        "g",
        [value],
        [helper.make_tensor_value_info("w", kind, content.array.shape), helper.make_tensor_value_info("y", 1, [1])],
        builder.initializers,
        sparse_initializer=builder.sparse,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    plain, count = unpacked(load_graph(proto))
    assert count == (1 if builder.nodes or builder.sparse else 0)
    (array,) = map(numpy_helper.to_array, plain.graph.initializer)
    assert [node.op_type for node in plain.graph.node] == ["Neg"]
    assert array.dtype == content.array.dtype
    assert array.tobytes() == content.array.tobytes()


def test_tensors_that_share_decode_nodes_are_all_unpacked():
    rng = np.random.default_rng(0)
    builder = Builder("_", pools=True)
    arrays = {f"w{n}": (rng.standard_normal((30, 40)) * (rng.random((30, 40)) < 0.1)).astype(np.int8) for n in range(4)}
    for name, array in arrays.items():
        encode_smallest(builder, Content(array, floats=True), name, 17)
    encode_pending(builder, 17)
    nodes = [helper.make_node("Add", ["x", name], [f"y{name}"]) for name in arrays]
    outputs = [helper.make_tensor_value_info(node.output[0], 1, None) for node in nodes]
    value = helper.make_tensor_value_info("x", 1, [1])
    graph = helper.make_graph([*builder.nodes, *nodes], "g", [value], outputs, builder.initializers)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    plain, count = unpacked(load_graph(proto))
    assert count == len(arrays)
    assert [node.op_type for node in plain.graph.node] == ["Add"] * 4
    for item in plain.graph.initializer:
        assert np.array_equal(numpy_helper.to_array(item), arrays[item.name].astype(np.float32))


@pytest.mark.parametrize("kernel", ["int8", "nbits"])
def test_kernels_stay_what_they_are(kernel, tmp_path):
    packed, plain = write(tmp_path / "packed.onnx", sparse_module(), kernel), tmp_path / "plain.onnx"
    unpack(packed, plain)
    before, after = (onnx.load(path) for path in (packed, plain))
    operators = {"QuantizeLinear", "DequantizeLinear", "MatMulNBits", "Gemm", "MatMul"}
    of = [[node.op_type for node in proto.graph.node if node.op_type in operators] for proto in (before, after)]
    assert of[0] == of[1]
    assert len(after.graph.node) < len(before.graph.node)
    check_folded(plain)


def test_shapes_that_the_model_computes_are_left_to_it(tmp_path):
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    net (float[2, 6] x) => (float[3, 4] y)
    <int64[1] rows = {3}, int64[1] columns = {4}, float[2] v = {1.5, 2.5}, int64[1] repeats = {2}>
    {
      shape = Concat<axis = 0>(rows, columns)
      tiled = Tile(v, repeats)
      z = Reshape(x, shape)
      y = Add(z, tiled)
    }
    """
    packed = tmp_path / "m.onnx"
    save_proto(onnx.parser.parse_model(text), packed)
    proto = onnx.load(unpack(packed, tmp_path / "plain.onnx").path)
    assert [node.op_type for node in proto.graph.node] == ["Concat", "Reshape", "Add"]
    assert {item.name for item in proto.graph.initializer} == {"rows", "columns", "tiled"}


def test_what_is_not_packed_is_refused(tmp_path):
    path = tmp_path / "m.onnx"
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    net (float[1, 4] x) => (float[1, 4] y) <float[4] w = {1, 2, 3, 4}> { y = Mul(x, w) }
    """
    save_proto(onnx.parser.parse_model(text), path)
    with pytest.raises(ModelError, match="is not packed") as caught:
        unpack(path, tmp_path / "plain.onnx")
    assert "ordinary initializers" in caught.value.hint
    assert not (tmp_path / "plain.onnx").exists()


def test_the_input_is_never_written(packed):
    before = packed.read_bytes()
    with pytest.raises(ExportError, match="is the input itself"):
        unpack(packed, packed)
    assert packed.read_bytes() == before


def test_nothing_appears_where_the_outputs_differ(packed, tmp_path, monkeypatch):
    def changed(graph):
        plain, count = unpacked(graph)
        weight = plain.graph.initializer[0]
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) + np.float32(1), weight.name))
        return plain, count

    monkeypatch.setattr("toolchain.unpacking.unpacked", changed)
    with pytest.raises(ExportError, match="'y' of the unpacked model differs"):
        unpack(packed, tmp_path / "plain.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["packed.onnx"]


def test_samples_of_another_shape_are_refused(packed, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((1, 7), np.float32))
    with pytest.raises(DataError):
        unpack(packed, tmp_path / "plain.onnx", inputs=tmp_path / "x.npy")


def test_it_needs_no_torch(packed, tmp_path):
    code = "import sys; sys.modules['torch'] = None\nfrom toolchain.cli import main; main(sys.argv[1:])"
    plain = tmp_path / "plain.onnx"
    done = subprocess.run(
        [sys.executable, "-c", code, "unpack", packed, "-o", plain], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "2 tensors unpacked" in done.stdout
    assert plain.exists()
