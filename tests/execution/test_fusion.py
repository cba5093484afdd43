import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from toolchain.formats import Grid, TensorFormat
from toolchain.graph import load_graph
from toolchain.module import OnnxModule

WEIGHTS = "float[3, 2] w = {1, 2, 3, 4, 5, 6}, float[2] b = {0.5, -0.5}, float[4, 2] m = {1, 2, 3, 4, 5, 6, 7, 8}"


def built(body, outputs="float y"):
    text = f'<ir_version: 8, opset_import: ["" : 17]> g (float[4, 3] x) => ({outputs}) <{WEIGHTS}> {{ {body} }}'
    proto = onnx.parser.parse_model(text)
    return proto, OnnxModule(load_graph(proto)).eval()


def operators(module):
    return [step.op for step in module.program.fused]


@pytest.mark.parametrize("order", ["p, b", "b, p"])
def test_a_product_and_its_bias_are_one_step_with_the_same_values(order):
    proto, module = built(f"p = MatMul(x, w) y = Add({order})")
    assert operators(module) == ["MatMul + Add"]
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    expected = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": x})[0]
    np.testing.assert_allclose(module({"x": x})["y"].detach(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        ("p = MatMul(x, w) y = Add(p, m)", "float y"),  # not a bias
        ("p = MatMul(x, w) y = Add(p, b)", "float y, float p"),  # asked for
        ("p = MatMul(x, w) q = Add(p, b) y = Mul(q, p)", "float y"),  # read twice
        ("p = MatMul(x, w) y = Add(p, p)", "float y"),
    ],
    ids=["matrix", "output", "read twice", "doubled"],
)
def test_what_is_no_linear_layer_stays_as_it_is(body, outputs):
    _, module = built(body, outputs)
    assert operators(module) == [step.op for step in module.program.steps]


def test_a_value_inside_a_joined_step_can_still_be_asked_for():
    _, module = built("p = MatMul(x, w) y = Add(p, b)")
    x = torch.ones(4, 3)
    assert torch.equal(module.run({"x": x}, ["p"])["p"], x @ module.tensor("w"))


def test_a_grid_on_a_value_inside_a_joined_step_is_not_skipped():
    _, module = built("p = MatMul(x, w) y = Add(p, b)")
    module.formats["p"] = TensorFormat(None, Grid(tuple(range(-3, 4)), torch.tensor(5.0), 0, None))
    y = module({"x": torch.ones(4, 3)})["y"]
    assert torch.equal(y, torch.tensor([[10.0, 10.0]]).expand(4, 2) + torch.tensor([0.5, -0.5]))


@pytest.mark.parametrize(
    ("dtype", "rows", "values"), [("float", 0, ""), ("int32", 2, "1, 2, 3, 4")], ids=["empty", "integers"]
)
def test_what_torch_cannot_join_stays_as_it_is(dtype, rows, values):
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g ({dtype}[n, {rows}] x) => ({dtype}[n, 2] y) '
        f"<{dtype}[{rows}, 2] w = {{{values}}}, {dtype}[2] b = {{3, 4}}> {{ p = MatMul(x, w) y = Add(p, b) }}"
    )
    module = OnnxModule(load_graph(proto))
    assert operators(module) == ["MatMul", "Add"]
    x = np.zeros((3, rows), np.float32 if dtype == "float" else np.int32)
    assert module({"x": x})["y"].tolist() == [[3, 4]] * 3
