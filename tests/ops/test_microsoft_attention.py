"""Attention and MultiHeadAttention of com.microsoft against ONNX Runtime."""

import numpy as np
import onnx
import pytest
import torch

from toolchain.graph import load_graph
from toolchain.ops import find
from toolchain.ops.microsoft_attention import attention, multi_head_attention

B, H, L, E, V, D = 2, 3, 4, 8, 6, 10


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def kept(*shape):
    """A mask that leaves every query a key: where it leaves none, all depends on how sums with -10000 round."""
    mask = (np.random.default_rng(7).random(shape) > 0.4).astype(np.int32)
    mask[..., 0] = 1
    return mask


def mask(form, keys, *, left=1):
    forms = {
        "per key": kept(B, keys),
        "per query and key": kept(B, L, keys),
        "lengths": np.array([3, keys], np.int32),
        "ends and starts": np.array([keys - 1, keys, left, 0], np.int32),
    }
    return forms.get(form)


ATTENTION = {"rtol": 1e-4, "atol": 1e-5, "domain": "com.microsoft", "num_heads": H}


@pytest.mark.parametrize("form", ["none", "per key", "per query and key", "lengths", "ends and starts"])
@pytest.mark.parametrize("unidirectional", [0, 1])
@pytest.mark.parametrize("past", [0, 2])
@pytest.mark.parametrize("options", [{}, {"scale": 0.3}, {"mask_filter_value": -1e30}], ids=str)
def test_attention_agrees(agree, form, unidirectional, past, options):
    inputs = {
        "x": noise(B, L, D),
        "w": noise(D, 3 * H * E, seed=1),
        "b": noise(3 * H * E, seed=2),
        "mask": mask(form, L + past, left=1 - unidirectional),
        "past": noise(2, B, H, past, E, seed=3) if past else None,
    }
    agree("Attention", inputs, outputs=2 if past else 1, unidirectional=unidirectional, **options, **ATTENTION)


@pytest.mark.parametrize("form", ["none", "per key"])
@pytest.mark.parametrize("unidirectional", [0, 1])
@pytest.mark.parametrize("shape", [(1, 1), (B, 1), (B, H)])
def test_attention_with_a_bias_and_other_sizes_agrees(agree, form, unidirectional, shape):
    sizes = [H * E, H * E, H * V]
    inputs = {
        "x": noise(B, L, D),
        "w": noise(D, sum(sizes), seed=1),
        "b": noise(sum(sizes), seed=2),
        "mask": mask(form, L),
        "past": None,
        "bias": noise(*shape, L, L, seed=4),
    }
    agree("Attention", inputs, unidirectional=unidirectional, qkv_hidden_sizes=sizes, **ATTENTION)


@pytest.mark.parametrize("form", ["none", "per key", "per query and key", "lengths"])
@pytest.mark.parametrize("unidirectional", [0, 1])
@pytest.mark.parametrize("past", [0, 2])
@pytest.mark.parametrize("with_bias", [False, True])
def test_multi_head_attention_agrees(agree, form, unidirectional, past, with_bias):
    size = E if past else V  # only without a past may values differ from keys in size
    inputs = {
        "q": noise(B, L, H * E),
        "k": noise(B, L, H * E, seed=1),
        "v": noise(B, L, H * size, seed=2),
        "b": noise(2 * H * E + H * size, seed=3) if with_bias else None,
        "mask": mask(form, L + past),
        "bias": noise(1, H, L, L + past, seed=4) if with_bias else None,
        "past_key": noise(B, H, past, E, seed=5) if past else None,
        "past_value": noise(B, H, past, E, seed=6) if past else None,
    }
    agree("MultiHeadAttention", inputs, outputs=3 if past else 1, unidirectional=unidirectional, **ATTENTION)


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("keys", [3, 6])
@pytest.mark.parametrize("apart", [False, True])
def test_attention_to_another_sequence_agrees(agree, apart, keys, with_bias):
    inputs = {
        "q": noise(B, L, H * E),
        "k": noise(B, H, keys, E, seed=1) if apart else noise(B, keys, H * E, seed=1),
        "v": noise(B, H, keys, E, seed=2) if apart else noise(B, keys, H * E, seed=2),
        "b": noise(3 * H * E, seed=3) if with_bias else None,
        "mask": kept(B, keys),
    }
    agree("MultiHeadAttention", inputs, **ATTENTION)


def tensors(*shapes):
    return [torch.from_numpy(noise(*shape, seed=k)).double().requires_grad_() for k, shape in enumerate(shapes)]


def test_packed_inputs_mean_what_separate_ones_do():
    q, k, v, b = tensors((B, L, H * E), (B, L, H * E), (B, L, H * E), (3 * H * E,))
    (expected,) = multi_head_attention(q, k, v, b, num_heads=H)
    q, k, v = (x.view(B, L, H, E) for x in (q, k, v))
    (together,) = multi_head_attention(torch.stack([q, k, v], 3), None, None, b, num_heads=H)
    torch.testing.assert_close(together, expected)
    (pair,) = multi_head_attention(q.flatten(2), torch.stack([k, v], 3), None, b, num_heads=H)
    torch.testing.assert_close(pair, expected)


def test_the_masked_scores_are_shown():
    q, k, v = tensors((B, L, H * E), (B, L, H * E), (B, L, H * V))
    y, _, values, scores = multi_head_attention(q, k, v, None, torch.tensor([3, 4]), num_heads=H, output_count=4)
    assert scores.shape == (B, H, L, L)
    assert (scores[0, ..., 3] < -9000).all()
    assert (scores[1] > -9000).all()
    torch.testing.assert_close((torch.softmax(scores, -1) @ values).transpose(1, 2).flatten(2), y)
    (fused,) = multi_head_attention(q, k, v, None, torch.tensor([3, 4]), num_heads=H)
    torch.testing.assert_close(y, fused)


@pytest.mark.parametrize("unidirectional", [0, 1])
def test_gradients_are_right(unidirectional):
    leaves = tensors((1, 3, 4), (4, 12), (12,))
    past, bias = tensors((2, 1, 2, 1, 2), (1, 1, 3, 4))
    assert torch.autograd.gradcheck(
        lambda x, w, b, past, bias: attention(
            x, w, b, None, past, bias, num_heads=2, unidirectional=unidirectional, output_count=2
        ),
        (*leaves, past, bias),
    )


@pytest.mark.parametrize("shape", [(B, 1, 16, 16), (3 * B + 2,)])
def test_masks_for_other_kernels_are_refused(shape):
    x, w, b = tensors((B, L, D), (D, 3 * H * E), (3 * H * E,))
    with pytest.raises(ValueError, match="cannot be read"):
        attention(x, w, b, torch.ones(shape, dtype=torch.int32), num_heads=H)


def test_one_way_attention_to_a_longer_sequence_is_refused():
    q, k, v = tensors((B, L, H * E), (B, L + 1, H * E), (B, L + 1, H * E))
    with pytest.raises(ValueError, match="5 keys 4 queries"):
        multi_head_attention(q, k, v, num_heads=H, unidirectional=1)


@pytest.mark.parametrize(
    "call",
    [
        "Attention<num_heads=2, do_rotary=1>(x, w, b)",
        "Attention<num_heads=2, past_present_share_buffer=1>(x, w, b)",
        "Attention<num_heads=2>(x, w, b, , , , n)",
        "MultiHeadAttention<num_heads=2>(x, x, x, , , , , , n)",
    ],
)
def test_what_only_generation_needs_is_left_to_onnx_runtime(call):
    text = (
        '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> '
        "g (float[2,5,4] x, float[4,12] w, float[12] b, int32[1] n) => (float[2,5,4] y) "
        f"{{ y = com.microsoft.{call} }}"
    )
    (node,) = load_graph(onnx.parser.parse_model(text)).nodes
    assert find(node) is None
