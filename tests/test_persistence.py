import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import toolchain
from toolchain.errors import ExportError, ModelError
from toolchain.formats import Grid, TensorFormat
from toolchain.graph.external import tensors_of

VALUES = {"float_data", "int32_data", "double_data", "raw_data", "f", "floats"}

# The same layer, its weight at home wherever a model can hold it; the name that the weight gets; and its type.
INITIALIZER = """
<ir_version: 8, opset_import: ["" : 17], producer_name: "somebody", metadata_props: ["key": "value"]>
g (float[n,2] x) => (float[n,2] y) <float[2,2] w = {1,-2,3,4}> { y = MatMul(x, w) }
"""
HALF = INITIALIZER.replace("float", "float16")
DOUBLE = INITIALIZER.replace("float", "double")
CONSTANT = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[n,2] x) => (float[n,2] y) { w = Constant<value = float[2,2] {1,-2,3,4}>()  y = MatMul(x, w) }
"""
PLAIN = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[n,2] x) => (float[n,2] y) { w = Constant<value_floats = [1.5, -2.5]>()  h = Relu(x)  y = Add(h, w) }
"""
BRANCH = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[n,2] x, bool c) => (float[n,2] y) <float[2,2] v = {1,2,3,4}> {
  h = MatMul(x, v)
  y = If(c) <then_branch = a () => (float[n,2] z) <float[2,2] w = {1,-2,3,4}> { z = MatMul(h, w) },
             else_branch = b () => (float[n,2] z) {
               w = Constant<value = float[2,2] {5,6,7,8}>()
               z = MatMul(h, w)
             }>
}
"""
LOOP = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[n,2] x) => (float[n,2] y) <int64 count = {3}> {
  y = Loop(count, , x) <body = b (int64 i, bool c, float[n,2] s) => (bool d, float[n,2] t) <float[2,2] w = {1,-2,3,4}> {
    d = Identity(c)
    t = MatMul(s, w)
  }>
}
"""
SCAN = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[2] s, float[5,2] x) => (float[2] last, float[5,2] y) {
  last, y = Scan<num_scan_inputs = 1, body = b (float[2] s, float[2] i) => (float[2] t, float[2] o) {
    w = Constant<value = float[2,2] {1,-2,3,4}>()
    m = MatMul(i, w)
    t = Add(s, m)
    o = Identity(t)
  }>(s, x)
}
"""
FUNCTION = """
<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
g (float[n,2] x) => (float[n,2] y) { h = own.layer(x)  y = own.layer(h) }
<domain: "own", opset_import: ["" : 17]> layer (x) => (y) {
  w = Constant<value = float[2,2] {1,-2,3,4}>()
  y = MatMul(x, w)
}
"""
NESTED_FUNCTION = """
<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
g (float[n,2] x) => (float[n,2] y) { h = own.outer(x)  y = own.outer(h) }
<domain: "own", opset_import: ["" : 17, "own" : 1]> outer (x) => (y) { h = own.layer(x)  y = own.layer(h) }
<domain: "own", opset_import: ["" : 17]> layer (x) => (y) {
  w = Constant<value = float[2,2] {1,-2,3,4}>()
  y = MatMul(x, w)
}
"""
# Every call has a copy of the branch, all of which are one weight.
BRANCH_IN_FUNCTION = """
<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
g (float[n,2] x, bool c) => (float[n,2] y) { h = own.layer(x, c)  y = own.layer(h, c) }
<domain: "own", opset_import: ["" : 17]> layer (x, c) => (y) {
  y = If(c) <then_branch = a () => (float[n,2] z) <float[2,2] w = {1,-2,3,4}> { z = MatMul(x, w) },
             else_branch = b () => (float[n,2] z) {
               v = Constant<value = float[2,2] {5,6,7,8}>()
               z = MatMul(x, v)
             }>
}
"""
# Every call gives a weight of its own.
ATTRIBUTE = """
<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
g (float[n,2] x) => (float[n,2] y) {
  h = own.outer<weight = float[2,2] {1,-2,3,4}>(x)
  y = own.outer<weight = float[2,2] {5,6,7,8}>(h)
}
<domain: "own", opset_import: ["" : 17, "own" : 1]> outer <weight> (x) => (y) {
  y = own.layer<weight : tensor = @weight>(x)
}
<domain: "own", opset_import: ["" : 17]> layer <weight> (x) => (y) {
  w = Constant<value : tensor = @weight>()
  y = MatMul(x, w)
}
"""
HOMES = {
    "initializer": (INITIALIZER, ["w"]),
    "half": (HALF, ["w"]),
    "double": (DOUBLE, ["w"]),
    "Constant node": (CONSTANT, ["w"]),
    "Constant node of numbers": (PLAIN, ["w"]),
    "If": (BRANCH, ["v", "w", "If_1/else_branch/w"]),
    "Loop": (LOOP, ["w"]),
    "Scan": (SCAN, ["w"]),
    "function": (FUNCTION, ["own.layer/w"]),
    "function in function": (NESTED_FUNCTION, ["own.layer/w"]),
    "If in function": (BRANCH_IN_FUNCTION, ["layer_0/w", "layer_0/v"]),
    "attribute of a call": (ATTRIBUTE, ["outer_0/y/w", "outer_1/y/w"]),
}


def raw(text, kind=None):
    """Return the model with its first initializer as raw data, of another element type where one is given."""
    proto = onnx.parser.parse_model(text)
    tensor = proto.graph.initializer[0]
    array = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(array if kind is None else array.astype(kind), tensor.name))
    return proto


def sparse(positions):
    proto = onnx.parser.parse_model(INITIALIZER)
    del proto.graph.initializer[:]
    values = numpy_helper.from_array(np.array([1, -2], np.float32), "w")
    indices = numpy_helper.from_array(np.array(positions), "")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2, 2]))
    return proto


PROTOS = {name: (onnx.parser.parse_model(text), names) for name, (text, names) in HOMES.items()}
PROTOS |= {
    "raw initializer": (raw(INITIALIZER), ["w"]),
    "raw half": (raw(HALF), ["w"]),
    "sparse, linear": (sparse([0, 3]), ["w"]),
    "sparse, coordinates": (sparse([[0, 0], [1, 1]]), ["w"]),
}


def without_values(proto):
    """Return the model with the numbers of float tensors blanked, but not how many fields hold them."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for tensor in tensors_of(copy):
        for field in VALUES & {field.name for field, _ in tensor.ListFields()}:
            tensor.doc_string += f" {field}"
            tensor.ClearField(field)
    for node in copy.graph.node:
        for attribute in node.attribute:
            attribute.ClearField("floats")
    return copy


def train(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))


def feed_of(proto, condition):
    rng = np.random.default_rng(1)
    feed = {}
    for value in proto.graph.input:
        shape = [dim.dim_value or 4 for dim in value.type.tensor_type.shape.dim]
        kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        feed[value.name] = np.array(condition) if kind.kind == "b" else rng.standard_normal(shape).astype(kind)
    return feed


def run(path, feed):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, feed)


@pytest.mark.parametrize("home", PROTOS)
def test_an_untrained_module_is_saved_byte_for_byte(tmp_path, home):
    proto = PROTOS[home][0]
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    for source in (tmp_path / "model.onnx", str(tmp_path / "model.onnx"), proto.SerializeToString(), proto):
        toolchain.save(toolchain.load(source), tmp_path / "saved.onnx")
        assert (tmp_path / "saved.onnx").read_bytes() == proto.SerializeToString()


@pytest.mark.parametrize("home", PROTOS)
def test_trained_weights_are_saved_where_the_old_ones_were(tmp_path, home):
    proto, names = PROTOS[home]
    path = tmp_path / "saved.onnx"
    module = toolchain.load(proto.SerializeToString())
    assert list(module.weights()) == names
    train(module)
    toolchain.save(module, path)
    again = toolchain.load(path)
    for name, weight in module.weights().items():
        assert torch.equal(again.tensor(name), weight)
    saved = onnx.load(path)
    onnx.checker.check_model(saved)
    if "sparse" not in home:
        assert without_values(saved) == without_values(proto)
    for condition in (True, False):
        feed = feed_of(proto, condition)
        with torch.no_grad():
            got = module(feed)
        for (name, value), expected in zip(got.items(), run(path, feed), strict=True):
            np.testing.assert_allclose(value.numpy(), expected, rtol=1e-2 if "half" in home else 1e-5, err_msg=name)


@pytest.mark.parametrize("home", ["sparse, linear", "sparse, coordinates"])
def test_a_sparse_initializer_stays_sparse(tmp_path, home):
    proto = PROTOS[home][0]
    module = toolchain.load(proto)
    with torch.no_grad():
        module.weights()["w"].mul_(2)
    toolchain.save(module, tmp_path / "saved.onnx")
    saved = onnx.load(tmp_path / "saved.onnx").graph.sparse_initializer[0]
    assert saved.indices == proto.graph.sparse_initializer[0].indices
    np.testing.assert_array_equal(numpy_helper.to_array(saved.values), [2, -4])


def test_bfloat16_weights_are_saved_bit_for_bit(tmp_path):
    proto = onnx.parser.parse_model(INITIALIZER.replace("float", "bfloat16"))
    module = toolchain.load(proto)
    train(module)
    toolchain.save(module, tmp_path / "saved.onnx")
    saved = onnx.load(tmp_path / "saved.onnx").graph.initializer[0]
    assert saved.data_type == TensorProto.BFLOAT16
    bits = module.weights()["w"].detach().view(torch.uint16).numpy()
    np.testing.assert_array_equal(numpy_helper.to_array(saved).view(np.uint16), bits)


def test_a_weight_that_several_calls_share_trains_once_and_gathers_all_gradients():
    module = toolchain.load(PROTOS["If in function"][0])
    feed = {"x": torch.ones(1, 2), "c": torch.tensor(True)}
    module(feed)["y"].sum().backward()
    weight = torch.tensor([[1.0, -2], [3, 4]], requires_grad=True)
    (feed["x"] @ weight @ weight).sum().backward()
    torch.testing.assert_close(module.weights()["layer_0/w"].grad, weight.grad)
    assert module.weights()["layer_0/v"].grad is None


def test_running_statistics_are_saved(tmp_path):
    module = toolchain.load(
        onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[n,2,4] x) => (float[n,2,4] y)
        <float[2] gamma = {1,2}, float[2] beta = {0,0}, float[2] mean = {0,1}, float[2] var = {1,2}>
        { y = BatchNormalization(x, gamma, beta, mean, var) }
        """)
    ).train()
    module({"x": torch.randn(8, 2, 4, generator=torch.Generator().manual_seed(0))})
    toolchain.save(module, tmp_path / "saved.onnx")
    again = toolchain.load(tmp_path / "saved.onnx")
    assert not torch.equal(again.tensor("mean"), torch.tensor([0.0, 1.0]))
    for name in ("mean", "var"):
        assert torch.equal(again.tensor(name), module.tensor(name))


def test_a_model_with_external_data_is_trained_and_saved_in_the_same_layout(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "target").mkdir()
    path, target = tmp_path / "source" / "model.onnx", tmp_path / "target" / "model.onnx"
    onnx.save(raw(INITIALIZER), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    module = toolchain.load(path)
    toolchain.save(module, target)
    for name in ("model.onnx", "weights.bin"):
        assert (tmp_path / "target" / name).read_bytes() == (tmp_path / "source" / name).read_bytes()
    train(module)
    toolchain.save(module, target)
    assert target.read_bytes() == path.read_bytes()
    assert (tmp_path / "target" / "weights.bin").read_bytes() == module.weights()["w"].detach().numpy().tobytes()
    feed = feed_of(raw(INITIALIZER), True)
    np.testing.assert_allclose(run(target, feed)[0], module(feed)["y"].detach().numpy(), rtol=1e-5)


def test_a_loaded_module_is_in_evaluation_mode():
    assert not toolchain.load(PROTOS["initializer"][0]).training


def test_a_module_of_another_type_is_refused(tmp_path):
    module = toolchain.load(PROTOS["initializer"][0]).double()
    with pytest.raises(ExportError, match=r"weight 'w' is float64 \[2, 2\], the file has float32"):
        toolchain.save(module, tmp_path / "saved.onnx")
    toolchain.save(module.float(), tmp_path / "saved.onnx")


def test_a_module_that_rounds_activations_is_refused(tmp_path):
    module = toolchain.load(PROTOS["initializer"][0])
    module.formats["y"] = TensorFormat(grid=Grid(tuple(range(4)), torch.tensor(1.0)))
    with pytest.raises(ExportError, match="rounds y") as raised:
        toolchain.save(module, tmp_path / "saved.onnx")
    assert "compress" in raised.value.hint
    assert not list(tmp_path.iterdir())


def test_the_source_is_not_overwritten(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(PROTOS["initializer"][0], path)
    before = path.read_bytes()
    with pytest.raises(ExportError, match="is what the model was read from"):
        toolchain.save(toolchain.load(path), path)
    assert path.read_bytes() == before


def test_a_missing_model_is_a_model_error(tmp_path):
    with pytest.raises(ModelError, match="cannot read"):
        toolchain.load(tmp_path / "absent.onnx")


def test_the_package_is_imported_without_torch():
    code = "import sys, toolchain; sys.exit(bool({'torch', 'onnx', 'numpy'} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(toolchain.__file__).parents[1])


def test_what_the_package_offers_is_not_hidden_by_its_modules():
    for name in toolchain.__all__:
        assert getattr(toolchain, name).__module__.startswith("toolchain.")
        assert callable(getattr(toolchain, name))
    with pytest.raises(AttributeError, match="nothing_such"):
        toolchain.nothing_such  # noqa: B018 - the attribute is what fails


MODELS = (Path(__file__).parents[1] / ".." / "shared" / "models").resolve()
REAL = sorted(MODELS.rglob("*.onnx"))


@pytest.mark.skipif(not REAL, reason="the real models are not beside this repository")
@pytest.mark.parametrize("path", REAL[::5], ids=lambda path: path.stem)
def test_a_trained_real_model_differs_in_its_values_only(tmp_path, path):
    module = toolchain.load(path)
    train(module)
    toolchain.save(module, tmp_path / "saved.onnx")
    assert without_values(onnx.load(tmp_path / "saved.onnx")) == without_values(onnx.load(path))
    again = toolchain.load(tmp_path / "saved.onnx")
    for name, weight in module.weights().items():
        assert torch.equal(again.tensor(name), weight), name


@pytest.mark.parametrize("model", [None, 3, ["model.onnx"]])
def test_what_is_no_model_is_not_loaded(model):
    with pytest.raises(ModelError, match="a path, bytes or a ModelProto, got a"):
        toolchain.load(model)


def test_what_was_not_loaded_is_not_saved(tmp_path):
    with pytest.raises(ExportError, match="got a Linear"):
        toolchain.save(torch.nn.Linear(2, 2), tmp_path / "linear.onnx")
    assert not list(tmp_path.iterdir())
