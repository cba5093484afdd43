"""The written file is the original graph with other constants."""

from pathlib import Path

import numpy as np
import onnx
import onnx.reference
import pytest
import torch

from toolchain.errors import ExportError
from toolchain.export import check_folded, shorten, verify, write_model
from toolchain.graph import load_graph
from toolchain.module import OnnxModule

PRUNED = (-2, -1, 1, 2)
SHARED = (Path(__file__).parents[2] / ".." / "shared").resolve()
LENET = SHARED / "models" / "lenet5_mnist.onnx"

MLP = """
<ir_version: 8, opset_import: ["" : 17], producer_name: "me", metadata_props: ["owner": "us"]>
net (float[N, 40] x) => (float[N, 30] y) {
  [first] h = Gemm <transB = 1> (x, w1, b1)
  [act] r = Relu (h)
  [second] y = MatMul (r, w2)
}
"""
SHAPES = {"w1": (60, 40), "b1": (60,), "w2": (60, 30)}


def batch(*shape: int, name: str = "x") -> dict[str, np.ndarray]:
    return {name: np.random.default_rng(7).standard_normal(shape).astype(np.float32)}


def test_an_untouched_module_is_written_bit_for_bit(build):
    module = build(MLP, SHAPES)
    written = write_model(module, {})
    assert written.proto.SerializeToString() == module.graph.proto.SerializeToString()
    assert not written.tensors


@pytest.mark.skipif(not LENET.exists(), reason="../shared is not there")
def test_the_untouched_lenet_file_is_written_byte_for_byte():
    assert write_model(OnnxModule(load_graph(LENET)), {}).proto.SerializeToString() == LENET.read_bytes()


def test_names_order_and_metadata_survive(build, compress):
    module = build(MLP, SHAPES)
    compress(module, 0.1, PRUNED)
    proto = write_model(module, {}).proto
    assert [node.name for node in proto.graph.node if node.name] == ["first", "act", "second"]
    assert proto.graph.node[-3:] == module.graph.proto.graph.node[-3:]
    assert proto.metadata_props[0].value == "us"
    assert proto.producer_name == "me"
    assert proto.graph.input == module.graph.proto.graph.input
    assert proto.ir_version == 8
    assert proto.opset_import[0].version == 17


def test_the_original_proto_is_not_changed(build, compress):
    module = build(MLP, SHAPES)
    before = module.graph.proto.SerializeToString()
    compress(module, 0.1, PRUNED)
    write_model(module, {})
    assert module.graph.proto.SerializeToString() == before


@pytest.mark.parametrize("levels", [None, PRUNED, (-1, 1), tuple(range(-127, 128))])
@pytest.mark.parametrize("kept", [0.05, 0.5, 1.0])
def test_float_kernels_decode_to_the_exact_weights(build, compress, levels, kept):
    module = build(MLP, SHAPES)
    compress(module, kept, levels)
    proto = write_model(module, {}).proto
    onnx.checker.check_model(proto)
    check_folded(proto.SerializeToString())
    weights = onnx.ModelProto()
    weights.CopyFrom(proto)
    weights.graph.output.extend(onnx.ValueInfoProto(name=name) for name in ("w1", "w2"))
    got = onnx.reference.ReferenceEvaluator(weights).run(["w1", "w2"], batch(2, 40))
    for name, value in zip(("w1", "w2"), got, strict=True):
        assert np.array_equal(value, module.tensor(name).detach().numpy())


def test_a_changed_bias_is_written_in_place(build):
    module = build(MLP, SHAPES)
    with torch.no_grad():
        module.tensor("b1").add_(1)
    written = write_model(module, {})
    assert [tensor.name for tensor in written.proto.graph.initializer] == list(SHAPES)
    assert written.tensors["b1"].encoding == "dense"
    assert written.proto.graph.initializer[0] == module.graph.proto.graph.initializer[0]
    verify(written.proto.SerializeToString(), module, [batch(3, 40)])


def test_a_changed_bias_that_fits_16_bits_is_stored_in_16_bits(build):
    module = build(MLP, SHAPES)
    with torch.no_grad():
        module.tensor("b1").copy_(module.tensor("b1").half())
    written = write_model(module, {})
    assert written.tensors["b1"].bytes < 60 * 2 + 60
    data = written.proto.SerializeToString()
    check_folded(data)
    verify(data, module, [batch(3, 40)])


def test_a_weight_in_a_constant_node_replaces_that_node(compress):
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    net (float[N, 2] x) => (float[N, 2] y) {
      w = Constant <value = float[2, 2] {1.0, 0.5, -2.0, 0.25}> ()
      y = MatMul (x, w)
    }
    """
    module = OnnxModule(load_graph(onnx.parser.parse_model(text))).eval()
    compress(module, 0.5, None)
    proto = write_model(module, {}).proto
    assert "Constant" not in [node.op_type for node in proto.graph.node]
    verify(proto.SerializeToString(), module, [batch(3, 2)])


def test_a_changed_constant_node_keeps_its_place():
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    net (float[N, 2] x) => (float[N, 2] y) {
      w = Constant <value = float[2, 2] {1.0, 0.5, -2.0, 0.25}> ()
      y = MatMul (x, w)
    }
    """
    module = OnnxModule(load_graph(onnx.parser.parse_model(text))).eval()
    with torch.no_grad():
        module.tensor("w").mul_(2)
    proto = write_model(module, {}).proto
    assert [node.op_type for node in proto.graph.node] == ["Constant", "MatMul"]
    verify(proto.SerializeToString(), module, [batch(3, 2)])


def old_model(opset: int) -> onnx.ModelProto:
    text = f"""
    <ir_version: 3, opset_import: ["" : {opset}]>
    net (float[N, 64] x, float[64, 64] w) => (float[N, 64] y) {{ [only] y = MatMul (x, w) }}
    """
    proto = onnx.parser.parse_model(text)
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    return proto


@pytest.mark.parametrize("opset", [7, 9, 10])
def test_an_old_model_whose_weights_are_inputs_is_raised_to_what_packing_needs(compress, opset):
    module = OnnxModule(load_graph(old_model(opset))).eval()
    compress(module, 0.05, PRUNED)
    written = write_model(module, {})
    assert [item.name for item in written.proto.graph.input] == ["x"]
    assert written.proto.opset_import[0].version == 11
    assert written.tensors["w"].encoding == "packed"
    check_folded(written.proto.SerializeToString())
    verify(written.proto.SerializeToString(), module, [batch(3, 64)])


def test_a_weight_off_its_format_is_refused_by_name(build, compress):
    module = build(MLP, SHAPES)
    compress(module, 0.1, PRUNED)
    with torch.no_grad():
        module.tensor("w2").add_(0.01)
    with pytest.raises(ExportError, match=r"'w2' has .* values off its format"):
        write_model(module, {})


def test_unknown_nodes_and_kernels_are_refused_with_the_nearest_name(build):
    module = build(MLP, SHAPES)
    with pytest.raises(ExportError, match="'frist'") as caught:
        write_model(module, {"frist": "float"})
    assert "first" in caught.value.hint
    with pytest.raises(ExportError, match="no kernel 'int9'"):
        write_model(module, {"first": "int9"})


@pytest.mark.skipif(not LENET.exists(), reason="../shared is not there")
@pytest.mark.parametrize(("kept", "levels", "limit"), [(1 / 36, PRUNED, 20_000), (1.0, (-1, 1), 64_000)])
def test_lenet_keeps_its_size_limit(compress, kept, levels, limit):
    module = OnnxModule(load_graph(LENET)).eval()
    compress(module, kept, levels)
    proto = write_model(module, {}).proto
    data = proto.SerializeToString()
    assert len(data) <= limit
    check_folded(data)
    verify(data, module, [batch(4, 1, 28, 28, name="image")])


# What a run at 246x leaves of LeNet-5 without the channels that no output depends on.
HEARD = {
    "conv1.weight": np.s_[:12],
    "conv1.bias": np.s_[:12],
    "conv2.weight": np.s_[:16, :12],
    "conv2.bias": np.s_[:16],
    "fc1.weight": np.s_[:88, :256],
    "fc1.bias": np.s_[:88],
    "fc2.weight": np.s_[:, :88],
    "fc2.bias": np.s_[:],
}


@pytest.mark.skipif(not LENET.exists(), reason="../shared is not there")
def test_lenet_keeps_its_size_limit_at_246x_with_3_bits(compress):
    proto = onnx.load(LENET)
    for tensor in proto.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)[HEARD[tensor.name]]
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    module = OnnxModule(load_graph(proto)).eval()
    weights = sum(module.tensor(name).numel() for name in HEARD if name.endswith("weight"))
    compress(module, 430_500 / 246 / weights, (-3, -2, -1, 1, 2, 3))
    feeds = batch(4, 1, 28, 28, name="image")
    short, _ = shorten(write_model(module, {}).proto, feeds)
    data = short.SerializeToString()
    assert len(data) <= 4_500
    check_folded(data)
    verify(data, module, [feeds])


def test_initializers_of_an_old_file_stay_constant_when_its_ir_version_is_raised(build, compress):
    graph = build(MLP, SHAPES).graph.proto
    old = onnx.ModelProto()
    old.CopyFrom(graph)
    old.ir_version = 3  # in which every initializer is listed as an input
    for name, shape in SHAPES.items():
        old.graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    module = OnnxModule(load_graph(old))
    compress(module, 0.1, PRUNED)
    proto = write_model(module, {}).proto
    assert proto.ir_version >= 4
    assert [value.name for value in proto.graph.input] == ["x"]
