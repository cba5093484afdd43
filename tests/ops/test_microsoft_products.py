"""Products with something fused to them, against ONNX Runtime."""

from itertools import product

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from toolchain.graph import load_graph
from toolchain.ops import find
from toolchain.ops.microsoft_products import ACTIVATIONS, fused_conv, fused_gemm, fused_matmul

MICROSOFT = {"domain": "com.microsoft", "rtol": 1e-4, "atol": 1e-5}


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def laid_out(x, transposed, batch_inside):
    x = x.swapaxes(-1, -2) if transposed else x
    return np.ascontiguousarray(np.moveaxis(x, -2, 0) if batch_inside else x)


@pytest.mark.parametrize("operator", ["FusedMatMul", "TransposeMatMul"])
@pytest.mark.parametrize(("trans_a", "trans_b"), list(product([0, 1], repeat=2)))
def test_transposed_factors_agree(agree, operator, trans_a, trans_b):
    a, b = laid_out(noise(2, 3, 4, 5), trans_a, 0), laid_out(noise(2, 3, 5, 6, seed=1), trans_b, 0)
    agree(operator, {"a": a, "b": b}, transA=trans_a, transB=trans_b, alpha=0.5, **MICROSOFT)


@pytest.mark.parametrize("layout", list(product([0, 1], repeat=4)), ids=str)
def test_every_layout_of_the_factors_means_the_same_product(agree, layout):
    trans_a, trans_b, batch_a, batch_b = layout
    a, b = noise(2, 3, 4, 5), noise(2, 3, 5, 6, seed=1)
    options = {"transA": trans_a, "transB": trans_b, "transBatchA": batch_a, "transBatchB": batch_b}
    inputs = {"a": laid_out(a, trans_a, batch_a), "b": laid_out(b, trans_b, batch_b)}
    (y,) = agree("FusedMatMul", inputs, **options, **MICROSOFT)
    np.testing.assert_allclose(y, a @ b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("a", "b"), [((5,), (5, 6)), ((4, 5), (5,)), ((5,), (5,))])
def test_vectors_have_nothing_to_transpose(agree, a, b):
    options = {"transA": int(len(a) == 1), "transB": int(len(b) == 1)}
    agree("FusedMatMul", {"a": noise(*a), "b": noise(*b, seed=1)}, **options, **MICROSOFT)


NUMBERS = {"alpha": 0.3, "beta": 0.4, "gamma": 1.2}
CONVOLUTION = {
    "Relu": None,
    "Sigmoid": None,
    "Tanh": None,
    "LeakyRelu": [0.1],
    "Clip": [-0.5, 0.5],
    "HardSigmoid": [0.3, 0.4],
}


@pytest.mark.parametrize("with_sum", [False, True])
@pytest.mark.parametrize("activation", CONVOLUTION)
def test_convolution_with_an_activation_agrees(agree, activation, with_sum):
    inputs = {
        "x": noise(2, 3, 8, 7),
        "w": noise(4, 3, 3, 3, seed=1),
        "b": noise(4, seed=2),
        "z": noise(2, 4, 4, 4, seed=3) if with_sum else None,
    }
    parameters = {"activation_params": CONVOLUTION[activation]} if CONVOLUTION[activation] else {}
    agree("FusedConv", inputs, activation=activation, strides=[2, 2], pads=[1] * 4, **parameters, **MICROSOFT)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS.keys() - {"", "Clip"}))
@pytest.mark.parametrize("transposed", [0, 1])
def test_linear_layer_with_an_activation_agrees(agree, activation, transposed):
    inputs = {"a": noise(3, 4), "b": noise(5, 4, seed=1) if transposed else noise(4, 5, seed=1), "c": noise(5, seed=2)}
    numbers = {f"activation_{name}": NUMBERS[name] for name in ACTIVATIONS[activation][1]}
    options = {"activation": activation, "alpha": 0.5, "beta": 2.0, "transB": transposed, **numbers}
    agree("FusedGemm", inputs, **options, **MICROSOFT)


ADDED = "float[2,3] x) => (float[2,4] y) <float[3,4] w = {1,2,3,4,5,6,7,8,9,1,2,3}> { t = Gemm(x, w) y = "
OPTIMIZED = {
    "Relu": "Relu(t)",
    "LeakyRelu": "LeakyRelu<alpha=0.2>(t)",
    "Elu": "Elu<alpha=0.7>(t)",
    "HardSigmoid": "HardSigmoid<alpha=0.3, beta=0.4>(t)",
    "Selu": "Selu(t)",
    "Softplus": "Softplus(t)",
    "Softsign": "Softsign(t)",
    "ThresholdedRelu": "ThresholdedRelu<alpha=0.3>(t)",
}


@pytest.mark.parametrize("activation", OPTIMIZED)
def test_what_onnx_runtime_fuses_is_known(tmp_path, activation):
    text = f'<ir_version: 8, opset_import: ["" : 17]> g ({ADDED}{OPTIMIZED[activation]} }}'
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(onnx.parser.parse_model(text).SerializeToString(), options)
    (node,) = load_graph(tmp_path / "optimized.onnx").nodes
    assert node.op == "FusedGemm"
    assert find(node)


@pytest.mark.parametrize(
    "call",
    [
        'FusedGemm<activation="Unheard">(a, b)',
        'FusedConv<activation="Unheard">(x, x)',
        'FusedConv<activation="LeakyRelu">(x, x)',
        'FusedConv<activation="Clip", activation_params=[1.0]>(x, x)',
    ],
)
def test_activations_that_are_not_known_are_left_to_onnx_runtime(call):
    text = (
        '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> '
        f"g (float[4,4] a, float[4,4] b, float[1,1,4,4] x) => (float[m] y) {{ y = com.microsoft.{call} }}"
    )
    (node,) = load_graph(onnx.parser.parse_model(text)).nodes
    assert find(node) is None


def leaves(*shapes):
    return tuple(torch.from_numpy(noise(*shape, seed=k)).double().requires_grad_() for k, shape in enumerate(shapes))


def test_gradients_are_right():
    assert torch.autograd.gradcheck(lambda *x: fused_matmul(*x, transA=1, transB=1, alpha=0.3), leaves((4, 3), (2, 4)))
    a, b, c = leaves((3, 4), (4, 2), (2,))
    assert torch.autograd.gradcheck(lambda *x: fused_gemm(*x, activation="Selu", activation_alpha=0.3), (a, b, c))
    x, w, bias, z = leaves((1, 2, 4, 4), (3, 2, 3, 3), (3,), (1, 3, 2, 2))
    assert torch.autograd.gradcheck(lambda *x: fused_conv(*x, activation="Tanh"), (x, w, bias, z))
