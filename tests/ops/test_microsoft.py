"""Sums, norms and gates of com.microsoft against ONNX Runtime, and against their definition where it has no kernel."""

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from toolchain.graph import load_graph
from toolchain.module import OnnxModule
from toolchain.ops import find
from toolchain.ops.microsoft import (
    bias_add,
    bias_gelu,
    bias_split_gelu,
    embed_layer_normalization,
    fast_gelu,
    inverse,
    skip_layer_normalization,
    skip_simplified_layer_normalization,
)

B, L, D = 2, 3, 8
MICROSOFT = {"domain": "com.microsoft"}


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("options", [{}, {"alpha": 1.0}, {"alpha": 0.5}], ids=str)
def test_quick_gelu_agrees(agree, options):
    agree("QuickGelu", {"x": noise(B, L, D)}, **options, **MICROSOFT)


@pytest.mark.parametrize("operator", ["BiasGelu", "FastGelu"])
def test_gelu_of_a_sum_agrees(agree, operator):
    agree(operator, {"x": noise(B, L, D), "bias": noise(D, seed=1)}, **MICROSOFT)


def test_fast_gelu_without_a_bias_agrees(agree):
    agree("FastGelu", {"x": noise(B, L, D)}, **MICROSOFT)


@pytest.mark.parametrize("skip", [(B, L, D), (1, L, D), (L, D)])
@pytest.mark.parametrize("outputs", [["y"], ["y", "", "", "sum"]])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("operator", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
def test_norms_of_a_sum_agree(agree, operator, full, outputs, skip):
    inputs = {"x": noise(B, L, D), "skip": noise(*skip, seed=1), "gamma": noise(D, seed=2)}
    if full and operator == "SkipLayerNormalization":
        inputs["beta"] = noise(D, seed=3)
    if full:
        inputs["bias"] = noise(D, seed=4)
    agree(operator, inputs, outputs=outputs, epsilon=1e-5, **MICROSOFT)


@pytest.mark.parametrize("operator", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
def test_the_default_epsilon_is_that_of_onnx_runtime(agree, operator):
    agree(
        operator, {"x": 1e-5 * noise(B, L, D), "skip": np.zeros((B, L, D), np.float32), "gamma": noise(D)}, **MICROSOFT
    )


@pytest.mark.parametrize("mask", [None, [[1, 1, 0], [1, 2, 1]]])
@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("positions", [None, (B, L), (1, L)])
def test_embedding_agrees(agree, mask, segments, positions):
    rng = np.random.default_rng(9)
    inputs = {
        "ids": rng.integers(0, 10, (B, L)).astype(np.int32),
        "segment_ids": rng.integers(0, 2, (B, L)).astype(np.int32) if segments else None,
        "words": noise(10, D),
        "positions": noise(12, D, seed=1),
        "segments": noise(2, D, seed=2) if segments else None,
        "gamma": noise(D, seed=3),
        "beta": noise(D, seed=4),
        "mask": None if mask is None else np.array(mask, np.int32),
        "position_ids": None if positions is None else rng.integers(0, 12, positions).astype(np.int32),
    }
    agree("EmbedLayerNormalization", inputs, outputs=3, epsilon=1e-5, **MICROSOFT)


def test_inverse_agrees(agree):
    agree("Inverse", {"x": noise(B, 3, 3) + 3 * np.eye(3, dtype=np.float32)}, rtol=1e-4, **MICROSOFT)


@pytest.mark.parametrize("upper", [0, 1])
def test_triangle_agrees(agree, upper):
    agree("Trilu", {"x": noise(B, 3, 4), "k": np.array(1)}, upper=upper, **MICROSOFT)


def test_gather_of_index_tuples_agrees(agree):
    agree("GatherND", {"x": noise(3, 4, 2), "i": np.array([[0, 1], [2, 3]])}, **MICROSOFT)


@pytest.mark.parametrize("options", [{}, {"mode": "bicubic"}, {"mode": "nearest", "align_corners": 1}], ids=str)
def test_sampling_agrees(agree, options):
    agree(
        "GridSample",
        {"x": noise(1, 2, 4, 5), "grid": noise(1, 3, 3, 2, seed=1)},
        rtol=1e-4,
        atol=1e-5,
        **options,
        **MICROSOFT,
    )


def test_gates_without_a_cpu_kernel_follow_their_definition():
    x, skip = (torch.from_numpy(noise(B, L, D, seed=k)) for k in range(2))
    bias = torch.from_numpy(noise(D, seed=2))
    torch.testing.assert_close(bias_add(x, bias, skip), x + bias + skip)
    h = x + bias
    torch.testing.assert_close(bias_split_gelu(x, bias), h[..., :4] * F.gelu(h[..., 4:]))


def leaves(*shapes):
    return tuple(torch.from_numpy(noise(*shape, seed=k)).double().requires_grad_() for k, shape in enumerate(shapes))


GRADIENTS = {
    "sum": (bias_add, [(2, 4), (4,), (2, 4)]),
    "gelu of a sum": (bias_gelu, [(2, 4), (4,)]),
    "approximate gelu of a sum": (fast_gelu, [(2, 4), (4,)]),
    "gate": (bias_split_gelu, [(2, 4), (4,)]),
    "inverse": (inverse, [(2, 3, 3)]),
    "norm of a sum": (skip_layer_normalization, [(1, 2, 4), (2, 4), (4,), (4,), (4,)]),
    "root mean square of a sum": (skip_simplified_layer_normalization, [(1, 2, 4), (2, 4), (4,), (4,)]),
    "embedding": (
        lambda *tensors: embed_layer_normalization(torch.tensor([[0, 2]]), torch.tensor([[1, 1]]), *tensors)[0],
        [(3, 4), (2, 4), (2, 4), (4,), (4,)],
    ),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_are_right(name):
    function, shapes = GRADIENTS[name]
    assert torch.autograd.gradcheck(function, leaves(*shapes))


def model(body):
    text = (
        '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> g '
        f"(float[{B},{L},{D}] x) => (float[{B},{L},{D}] y) "
        f"<float[{D}] gamma = {{{','.join(['1.5'] * D)}}}, float[{D}] beta = {{{','.join(['0.5'] * D)}}}> {{ {body} }}"
    )
    return load_graph(onnx.parser.parse_model(text))


@pytest.mark.parametrize("outputs", ["y, mean", "y, , deviation"])
@pytest.mark.parametrize("operator", ["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"])
def test_statistics_for_training_are_left_to_onnx_runtime(operator, outputs):
    (node,) = model(f"{outputs} = com.microsoft.{operator}(x, x, gamma)").nodes
    assert find(node) is None


def test_scale_and_bias_are_weights():
    module = OnnxModule(model("y = com.microsoft.SkipLayerNormalization(x, x, gamma, beta)"))
    assert module.weights().keys() == {"gamma", "beta"}
