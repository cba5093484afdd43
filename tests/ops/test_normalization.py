"""Normalisations: versions and names that no official case covers, and that each is one call."""

from functools import partial

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from toolchain.graph.build import build_graph
from toolchain.module import OnnxModule
from toolchain.ops import find
from toolchain.ops.normalization import (
    group_normalization,
    instance_normalization,
    layer_normalization,
    rms_normalization,
    simplified_layer_normalization,
)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def compare(call, feed, opset, outputs=1):
    declared = ", ".join(f"float[{','.join(map(str, value.shape))}] {name}" for name, value in feed.items())
    made = ["y", "extra"][:outputs]
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {opset}]> g ({declared}) => '
        f"({', '.join(f'float[m] {name}' for name in made)}) {{ {', '.join(made)} = {call} }}"
    )
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")
    expected = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, feed)
    # What ONNX Runtime adds to ai.onnx does not pass the checker of ONNX, so the graph is built without it.
    graph = build_graph(proto)
    assert all(find(node) for node in graph.nodes)
    got = OnnxModule(graph).eval()(feed)
    for result, wanted in zip(got.values(), expected, strict=True):
        np.testing.assert_allclose(result.detach().numpy(), wanted, rtol=1e-5, atol=1e-6)


X = {"x": noise(2, 3, 4)}


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("outputs", [1, 2])
def test_simplified_layer_normalization_agrees(axis, outputs, opset):
    feed = {**X, "s": noise(*X["x"].shape[axis:], seed=1)}
    compare(f"SimplifiedLayerNormalization<axis={axis}, epsilon=0.001>(x, s)", feed, opset, outputs)


@pytest.mark.parametrize("axis", [-1, 1])
def test_layer_normalization_in_an_opset_before_its_own_agrees(axis):
    shape = X["x"].shape[axis:]
    compare(f"LayerNormalization<axis={axis}>(x, s, b)", {**X, "s": noise(*shape, seed=1), "b": noise(*shape)}, 12)


BROADCAST = {
    "scale and bias": [(1,), (1,)],
    "scale": [(1,), (4,)],
    "bias": [(4,), (1,)],
    "both along more": [(3, 4), (3, 4)],
}


@pytest.mark.parametrize("name", BROADCAST)
def test_scales_and_biases_broadcast(name):
    x, (scale, bias) = torch.from_numpy(X["x"]), (torch.from_numpy(noise(*shape)) for shape in BROADCAST[name])
    normal = (x - x.mean(-1, keepdim=True)) * torch.rsqrt(x.var(-1, correction=0, keepdim=True) + 1e-5)
    torch.testing.assert_close(layer_normalization(x, scale, bias), normal * scale + bias)
    root = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5)
    torch.testing.assert_close(rms_normalization(x, scale), root * scale)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_statistics_of_half_precision_are_single(dtype):
    x = torch.from_numpy(noise(2, 300)).to(dtype) + 10
    y, mean, inverse = layer_normalization(x, torch.ones(300, dtype=dtype), output_count=3)
    assert (y.dtype, mean.dtype, inverse.dtype) == (dtype, torch.float32, torch.float32)
    torch.testing.assert_close(mean, x.double().mean(-1, keepdim=True).float())
    y, inverse = simplified_layer_normalization(x, torch.ones(300, dtype=dtype), output_count=2)
    assert (y.dtype, inverse.dtype) == (dtype, torch.float32)


def test_the_result_has_the_type_of_the_scale():
    y = rms_normalization(torch.ones(2, 4, dtype=torch.float16), torch.ones(4))
    assert y.dtype == torch.float32


def test_each_norm_is_one_call(monkeypatch):
    def forbidden(*_, **__):
        raise AssertionError("called")

    x, w = torch.from_numpy(X["x"]), torch.ones(4)
    monkeypatch.setattr(F, "layer_norm", forbidden)
    monkeypatch.setattr(F, "rms_norm", forbidden)
    for norm in (layer_normalization, rms_normalization):
        with pytest.raises(AssertionError, match="called"):
            norm(x, w)


@pytest.mark.parametrize("operator", ["LayerNormalization", "RMSNormalization"])
def test_another_type_for_statistics_is_refused(operator):
    text = (
        '<ir_version: 10, opset_import: ["" : 23]> g (float[2,4] x, float[4] s) => (float[2,4] y) '
        f"{{ y = {operator}<stash_type=16>(x, s) }}"
    )
    (node,) = build_graph(onnx.parser.parse_model(text)).nodes
    assert find(node) is None


@pytest.mark.parametrize("axis", [-1, 1])
def test_gradients_are_right(axis):
    x = torch.from_numpy(noise(2, 3, 2)).double().requires_grad_()
    scale = torch.from_numpy(noise(*x.shape[axis:], seed=1)).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, s: rms_normalization(x, s, axis=axis), (x, scale))
    assert torch.autograd.gradcheck(lambda x, s: layer_normalization(x, s, s, axis=axis), (x, scale))


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_of_instance_normalization_is_right_whatever_layout_it_comes_in(layout, batch):
    x = torch.from_numpy(noise(batch, 3, 4, 5)).double().requires_grad_()
    scale, bias = torch.tensor([1.0, 2.0, -3.0]).double(), torch.zeros(3).double()
    incoming = torch.from_numpy(noise(batch, 3, 4, 5, seed=1)).double()
    y = instance_normalization(x, scale, bias)
    (got,) = torch.autograd.grad(y, x, incoming.contiguous(memory_format=layout))
    var, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
    by_hand = (x - mean) / (var + 1e-5).sqrt() * scale.reshape(3, 1, 1)
    torch.testing.assert_close(got, torch.autograd.grad(by_hand, x, incoming)[0])


@pytest.mark.parametrize("normalize", [instance_normalization, partial(group_normalization, num_groups=2)])
def test_values_far_from_zero_are_normalised_exactly_whatever_layout_they_come_in(normalize):
    x = torch.from_numpy(noise(1, 4, 40, 40)) + 300
    scale, bias = torch.ones(4), torch.zeros(4)
    expected = normalize(x.double(), scale.double(), bias.double()).float()
    got = normalize(x.contiguous(memory_format=torch.channels_last), scale, bias)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


def test_instance_normalization_of_one_element_agrees(agree):
    # The standard deviation is the root of epsilon: what cancels is 300 times the values.
    inputs = {"x": noise(1, 3, 1, 1), "s": noise(3), "b": noise(3, seed=1)}
    agree("InstanceNormalization", inputs, rtol=1e-4, atol=1e-4)
