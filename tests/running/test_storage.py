import numpy as np
import onnx
import onnx.parser
import pytest
import torch
from onnx import numpy_helper

from calibration.observers import make_grid
from toolchain.export import activation_formats, activation_values, check_folded, verify
from toolchain.formats import Grid, TensorFormat
from toolchain.graph import load_graph
from toolchain.module import OnnxModule
from toolchain.running.storage import write_encoded

NET = """
<ir_version: 4, opset_import: ["" : 17]>
net (float[n, 40] x) => (float[n, 30] y) { h = Gemm<transB = 1>(x, w)  r = Relu(h)  y = Gemm<transB = 1>(r, v) }
"""
FEEDS = {"x": np.random.default_rng(1).standard_normal((3, 40)).astype(np.float32)}


def pruned(quantized):
    """Return a module that keeps a tenth of its weights."""
    proto = onnx.parser.parse_model(NET)
    rng = np.random.default_rng(0)
    for name, shape in (("w", (200, 40)), ("v", (30, 200))):
        proto.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name))
    module = OnnxModule(load_graph(proto)).eval()
    with torch.no_grad():
        for name in ("w", "v"):
            weight = module.tensor(name)
            mask = torch.zeros(weight.numel(), dtype=torch.bool)
            mask[weight.abs().flatten().topk(weight.numel() // 10).indices] = True
            grid = Grid((-2, -1, 1, 2), torch.full((len(weight),), 0.75), axis=0) if quantized else None
            found = TensorFormat(mask.reshape(weight.shape), grid)
            weight.copy_(found.project(weight))
            module.formats[name] = found
    return module


def kernels_of(module, kernel):
    kernels = {node.name: kernel for node in module.graph.nodes if node.op == "Gemm"}
    grids = {name: make_grid(-9.0, 9.0) for name in activation_values(module.graph, kernels)}
    module.formats.update(activation_formats(module, kernels, grids))
    return kernels


@pytest.mark.parametrize("kernel", ["float", "int8", "nbits"])
@pytest.mark.parametrize("encoding", ["auto", "dense", "sparse", "packed"])
def test_every_encoding_computes_what_the_module_computes(encoding, kernel):
    module = pruned(quantized=True)
    written = write_encoded(module, kernels_of(module, kernel), encoding)
    data = written.proto.SerializeToString()
    onnx.checker.check_model(written.proto)
    check_folded(data)
    verify(data, module, [FEEDS])


@pytest.mark.parametrize("kernel", ["float", "int8", "nbits"])
def test_a_dense_file_decodes_nothing(kernel):
    module = pruned(quantized=True)
    written = write_encoded(module, kernels_of(module, kernel), "dense")
    constant = {item.name for item in written.proto.graph.initializer}
    left = {node.op_type for node in written.proto.graph.node if constant.issuperset(node.input)}
    assert left <= {"DequantizeLinear"}
    assert not written.proto.graph.sparse_initializer
    assert {entry.encoding for entry in written.tensors.values()} == {"dense"}


@pytest.mark.parametrize("quantized", [False, True])
def test_a_sparse_file_holds_float_weights_as_sparse_initializers(quantized):
    written = write_encoded(pruned(quantized), {}, "sparse")
    stored = {item.values.name: item for item in written.proto.graph.sparse_initializer}
    assert stored.keys() == {"w", "v"}
    assert [node.op_type for node in written.proto.graph.node] == ["Gemm", "Relu", "Gemm"]
    for name, entry in written.tensors.items():
        assert (entry.encoding, entry.bytes) == ("sparse_initializer", stored[name].ByteSize())
        assert 12 * 0.1 <= entry.bytes / np.prod(stored[name].dims) < 12 * 0.1 + 0.1


def test_a_packed_file_has_no_sparse_initializer_where_auto_has_one():
    module = pruned(quantized=False)
    with torch.no_grad():
        for name in ("w", "v"):
            weight = module.tensor(name)
            weight.zero_()[0, 3] = 0.3
            module.formats[name] = TensorFormat(weight != 0)
    written = {encoding: write_encoded(module, {}, encoding) for encoding in ("auto", "packed")}
    assert len(written["auto"].proto.graph.sparse_initializer) == 2
    assert not written["packed"].proto.graph.sparse_initializer
    assert {entry.encoding for entry in written["packed"].tensors.values()} == {"packed"}
    for found in written.values():
        verify(found.proto.SerializeToString(), module, [FEEDS])
