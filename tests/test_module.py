import copy

import numpy as np
import onnx
import pytest
import torch
from torch.nn import functional

from toolchain.errors import ModelError
from toolchain.formats import Grid, TensorFormat
from toolchain.graph import load_graph
from toolchain.module import OnnxModule

HEADER = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>'

NORMALIZED = """
g (float[n,2,4,4] x) => (float[n,3,4,4] y)
<float[3,2,1,1] w = {1,-2,3,4,-5,6}, float[3] gamma = {1,2,3}, float[3] beta = {0.5,0,-1},
 float[3] mean = {0.1,0.2,0.3}, float[3] var = {1,2,3}>
{ h = Conv(x, w)  y = BatchNormalization<momentum=0.8, epsilon=0.01>(h, gamma, beta, mean, var) }
"""

SHARED = """
g (float[n,2] x) => (float[n,2] y) <float[2,2] w = {1,2,3,4}> { h = MatMul(x, w)  y = MatMul(h, w) }
"""


def module_of(text):
    return OnnxModule(load_graph(onnx.parser.parse_model(f"{HEADER} {text}")))


def test_batch_normalization_trains_as_torch_does():
    module = module_of(NORMALIZED).train()
    conv, norm = torch.nn.Conv2d(2, 3, 1, bias=False), torch.nn.BatchNorm2d(3, eps=0.01, momentum=0.2)
    with torch.no_grad():
        for target, name in ((conv.weight, "w"), (norm.weight, "gamma"), (norm.bias, "beta")):
            target.copy_(module.tensor(name))
        norm.running_mean.copy_(module.tensor("mean"))
        norm.running_var.copy_(module.tensor("var"))
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        x = torch.randn(5, 2, 4, 4, generator=generator)
        expected, got = norm(conv(x)), module({"x": x})["y"]
        torch.testing.assert_close(got, expected)
        expected.square().mean().backward()
        got.square().mean().backward()
    torch.testing.assert_close(module.tensor("mean"), norm.running_mean)
    torch.testing.assert_close(module.tensor("var"), norm.running_var)
    torch.testing.assert_close(module.tensor("w").grad, conv.weight.grad)
    torch.testing.assert_close(module.tensor("gamma").grad, norm.weight.grad)
    torch.testing.assert_close(module.eval()({"x": x})["y"], norm.eval()(conv(x)))


def test_running_statistics_stay_as_they_are_in_evaluation():
    module = module_of(NORMALIZED).eval()
    before = {name: tensor.clone() for name, tensor in module.buffers_by_name().items()}
    module({"x": np.ones((2, 2, 4, 4), np.float32)})
    assert set(before) == {"mean", "var"}
    for name, tensor in before.items():
        assert torch.equal(module.tensor(name), tensor)


def test_training_does_not_change_the_graph():
    module = module_of(NORMALIZED).train()
    module({"x": torch.randn(4, 2, 4, 4)})
    with torch.no_grad():
        module.tensor("w").zero_()
    np.testing.assert_array_equal(module.graph.initializers["mean"], np.float32([0.1, 0.2, 0.3]))
    np.testing.assert_array_equal(module.graph.initializers["w"].ravel(), [1, -2, 3, 4, -5, 6])


def test_a_shared_initializer_is_one_parameter():
    module = module_of(SHARED)
    assert list(module.weights()) == ["w"]
    assert len(list(module.parameters())) == 1
    x = torch.tensor([[1.0, -1.0]])
    module({"x": x})["y"].sum().backward()
    w = module.tensor("w").detach().clone().requires_grad_()
    (x @ w @ w).sum().backward()
    torch.testing.assert_close(module.tensor("w").grad, w.grad)


def test_names_with_dots_are_kept():
    module = module_of('g (float[n,2] x) => (float[n,2] y) <float[2,2] "fc.1.weight" = {1,2,3,4}> '
                       '{ y = MatMul(x, "fc.1.weight") }')  # fmt: skip
    assert list(module.weights()) == ["fc.1.weight"]
    assert module.tensor("fc.1.weight") is module.weights()["fc.1.weight"]


def test_integers_are_constants_and_matrices_that_are_added_do_not_train():
    module = module_of(
        "g (float[2,2] x) => (float[4] y) <float[2,2] w = {1,2,3,4}, float[2,2] mask = {0,1,1,0}, "
        "float[2] b = {1.5,2}, int64[1] shape = {4}> "
        "{ h = MatMul(x, w)  m = Add(h, mask)  s = Add(m, b)  y = Reshape(s, shape) }"
    )
    assert set(module.weights()) == {"w", "b"}
    assert set(module.buffers_by_name()) == {"mask"}
    assert module.tensor("shape").dtype == torch.int64


def test_shapes_are_computed_on_the_cpu_whatever_the_weights_are_on():
    module = module_of(
        "g (float[n,6] x) => (float[n,2,3] y) <float[6,6] w = {1,0,0,0,0,0, 0,1,0,0,0,0, 0,0,1,0,0,0, 0,0,0,1,0,0, "
        "0,0,0,0,1,0, 0,0,0,0,0,1}, int64 zero = {0}, int64[1] first = {0}, int64[2] rest = {2,3}> "
        "{ h = MatMul(x, w)  s = Shape(h)  n = Gather(s, zero)  u = Unsqueeze(n, first)  "
        "t = Concat<axis=0>(u, rest)  y = Reshape(h, t) }"
    ).to("meta")
    results = module.run({"x": torch.zeros(5, 6, device="meta")}, ["y", "t"])  # a device that holds no values
    assert results["y"].shape == (5, 2, 3)
    assert results["t"].tolist() == [5, 2, 3]


def test_weights_train_downhill():
    module = module_of(SHARED).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
    x, target = torch.randn(16, 2), torch.zeros(16, 2)
    losses = []
    for _ in range(5):
        loss = functional.mse_loss(module({"x": x})["y"], target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)


def test_an_activation_format_quantizes_and_passes_the_gradient_straight_through():
    module = module_of("g (float[2] x) => (float[2] y) <float[2] b = {0.3,0.3}> { h = Add(x, b)  y = Relu(h) }")
    module.formats["h"] = TensorFormat(grid=Grid(tuple(range(256)), torch.tensor(0.5), zero_point=10))
    x = torch.tensor([0.3, 1.0], requires_grad=True)
    y = module({"x": x})["y"]
    torch.testing.assert_close(y, torch.tensor([0.5, 1.5]))
    y.sum().backward()
    torch.testing.assert_close(x.grad, torch.ones(2))


def test_any_value_of_the_graph_can_be_asked_for():
    module = module_of(SHARED).eval()
    values = module.run({"x": np.float32([[1, 1]])}, ["h", "w", "x"])
    torch.testing.assert_close(values["h"], torch.tensor([[4.0, 6.0]]))
    assert values["w"] is module.tensor("w")
    with pytest.raises(ModelError, match="no value of the graph is named 'z'"):
        module.run({"x": np.float32([[1, 1]])}, ["z"])


def test_a_missing_input_is_named():
    with pytest.raises(ModelError, match="needs input 'x', got 'image'"):
        module_of(SHARED)({"image": torch.zeros(1, 2)})


def test_a_failing_operator_is_named_with_the_shapes_it_got():
    with pytest.raises(ModelError, match=r"MatMul node 'MatMul_0' failed on inputs x\[1, 3\], w\[2, 2\]"):
        module_of(SHARED)({"x": torch.zeros(1, 3)})


def test_operators_that_nobody_has_are_listed_all_at_once():
    text = (
        "g (float[n,2] x) => (float[n,2] y) { a = com.microsoft.Wavelet(x)  b = com.microsoft.FusedNonsense(x)  "
        "c = com.microsoft.FusedNonsense(x)  d = Relu(x)  y = Relu(d) }"
    )
    with pytest.raises(ModelError) as raised:
        module_of(text)
    message = str(raised.value)
    assert "com.microsoft.Wavelet: 1 node, first 'Wavelet_0'" in message
    assert "com.microsoft.FusedNonsense: 2 nodes, first 'FusedNonsense_1'" in message
    assert "Relu" not in message


def test_bfloat16_and_4_bit_initializers_are_read():
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]> g (float[2] x) => (float[2] y) '
        "{ l = DequantizeLinear(q, s)  c = Cast<to=1>(h)  t = Add(l, c)  y = Add(t, x) }"
    )
    levels = np.array([-3, 7]).astype(onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.INT4))
    halves = np.array([0.5, 1.5]).astype(onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16))
    for name, value in {"q": levels, "s": np.float32(0.25), "h": halves}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
    y = OnnxModule(load_graph(model))({"x": torch.zeros(2)})["y"]
    torch.testing.assert_close(y, torch.tensor([-0.25, 3.25]))


def test_a_module_can_be_copied():
    module = module_of(NORMALIZED).eval()
    other = copy.deepcopy(module)
    x = torch.randn(2, 2, 4, 4)
    assert torch.equal(module({"x": x})["y"], other({"x": x})["y"])
    with torch.no_grad():
        other.tensor("w").zero_()
    assert module.tensor("w").abs().sum() > 0


def test_an_output_that_nobody_asked_for_is_not_taken_for_an_input_that_is_left_out():
    weights = "float[1,4,1] w = {1,1,1,1}, float[1,4,1] r = {1,1,1,1}, float one = {1}"
    module = module_of(
        f"g (float[2,1,1] x) => (float[1,1,1] last, float[2,1,1] y) <{weights}> "
        "{ , last = LSTM<hidden_size=1>(x, w, r)  y = Clip(x, , one) }"
    )
    assert module({"x": torch.tensor([-5.0, 3.0]).reshape(2, 1, 1)})["y"].flatten().tolist() == [-5.0, 1.0]


def test_replay_computes_every_node_on_the_given_values():
    module = module_of(SHARED)
    x, h = torch.ones(1, 2), torch.tensor([[10.0, 0.0]])
    results = dict(module.replay({"x": x}, {"h": h}))
    assert torch.equal(results["h"], x @ module.tensor("w"))
    assert torch.equal(results["y"], h @ module.tensor("w"))


def test_a_module_without_weights_is_on_the_device_of_its_other_initializers():
    module = module_of("g (float[2,2] x) => (float[2,2] y) <float[2,2] mask = {1,0,0,1}> { y = Mul(x, mask) }")
    assert not module.weights()
    assert module.device.type == "cpu"
    assert module.to("meta").device.type == "meta"
