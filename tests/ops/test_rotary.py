"""Rotary embedding against ONNX Runtime under both its names."""

import numpy as np
import onnx
import pytest
import torch

from toolchain.graph import load_graph
from toolchain.ops import find
from toolchain.ops.rotary import rotary_embedding, rotate

B, H, L, E = 2, 3, 5, 8


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def positions(*shape):
    return np.random.default_rng(5).integers(0, 20, shape)


SHAPES = {"four dimensions": (B, H, L, E), "three dimensions": (B, L, H * E)}
WHERE = {"from one position on": np.array([3]), "given positions": positions(B, L)}
SIZES = {"whole heads": {}, "part of each head": {"rotary_embedding_dim": 4, "num_heads": H}}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("interleaved", [0, 1])
def test_contributed_rotary_embedding_agrees(agree, shape, where, size, interleaved):
    angles = SIZES[size].get("rotary_embedding_dim", E) // 2
    inputs = {"x": noise(*SHAPES[shape]), "p": WHERE[where], "c": noise(20, angles), "s": noise(20, angles, seed=1)}
    agree("RotaryEmbedding", inputs, domain="com.microsoft", interleaved=interleaved, **SIZES[size])


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("where", [None, positions(B, L)], ids=["angles", "positions"])
def test_rotary_embedding_agrees(agree, where, interleaved):
    cache = (B, L, 2) if where is None else (20, 2)
    inputs = {"x": noise(B, L, H * E), "c": noise(*cache), "s": noise(*cache, seed=1), "p": where}
    options = {"num_heads": H, "rotary_embedding_dim": 4, "interleaved": interleaved}
    agree("RotaryEmbedding", inputs, opset=23, **options)


@pytest.mark.parametrize("interleaved", [False, True])
def test_gradients_are_right(interleaved):
    leaves = [
        torch.from_numpy(noise(*shape)).double().requires_grad_() for shape in [(1, 2, 3, 6), (1, 3, 2), (1, 3, 2)]
    ]
    assert torch.autograd.gradcheck(lambda *tensors: rotate(*tensors, interleaved), leaves)


def test_angles_that_do_not_fit_are_refused():
    angles = torch.ones(B, L, 2)
    with pytest.raises(ValueError, match="2 angles do not turn 6 numbers"):
        rotary_embedding(torch.ones(B, H, L, E), angles, angles, rotary_embedding_dim=6)


@pytest.mark.parametrize("attributes", ["is_packed_batching=1", "scale=2.0"])
def test_what_has_no_documented_meaning_is_left_to_onnx_runtime(attributes):
    text = (
        '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> '
        "g (float[2,5,24] x, int64[2,5] p, float[20,4] c, float[20,4] s) => (float[2,5,24] y) "
        f"{{ y = com.microsoft.RotaryEmbedding<{attributes}>(x, p, c, s) }}"
    )
    (node,) = load_graph(onnx.parser.parse_model(text)).nodes
    assert find(node) is None
