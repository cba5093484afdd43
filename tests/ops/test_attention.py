"""Attention of ai.onnx beyond its official cases: combinations against ONNX Runtime, the two ways, gradients."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from onnx import helper

from toolchain.errors import ModelError
from toolchain.graph import load_graph
from toolchain.module import OnnxModule
from toolchain.ops.attention import attention, flex_attention
from toolchain.ops.attention_core import fused_attention, stepwise_attention

B, H, G, L, S, E, V = 2, 4, 2, 3, 5, 8, 6


def noise(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def tensor(*shape, seed=0, dtype=torch.float64, grad=True):
    return torch.from_numpy(noise(*shape, seed=seed)).to(dtype).requires_grad_(grad)


def qkv(groups=G, queries=L, keys=S, dtype=np.float32):
    shapes = {"q": (B, H, queries, E), "k": (B, groups, keys, E), "v": (B, groups, keys, V)}
    return {name: noise(*shape, seed=k, dtype=dtype) for k, (name, shape) in enumerate(shapes.items())}


def seen(*shape):
    mask = np.random.default_rng(7).random(shape) > 0.4
    mask[..., 0] = True
    return mask


MASKS = {
    "none": None,
    "one for all": seen(L, S),
    "one per head": seen(H, L, S),
    "one per sequence": seen(B, 1, L, S),
    "added": noise(B, H, L, S),
    "added, minus infinity included": np.where(seen(L, S), noise(L, S), -np.inf).astype(np.float32),
}


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("mask", MASKS)
def test_masks_agree(agree, mask, causal):
    agree("Attention", {**qkv(), "mask": MASKS[mask]}, opset=24, rtol=1e-4, is_causal=causal)


@pytest.mark.parametrize("mask", [seen(L, S - 2), noise(L, S - 2)], ids=["boolean", "added"])
def test_keys_that_a_mask_does_not_reach_are_hidden(mask):
    q, k, v = (torch.from_numpy(array) for array in qkv().values())
    mask = torch.from_numpy(mask)
    expected = attention(q, k[:, :, :-2], v[:, :, :-2], mask)[0]
    torch.testing.assert_close(attention(q, k, v, mask)[0], expected)


@pytest.mark.parametrize("options", [{}, {"scale": 0.3}, {"softcap": 0.7}, {"softmax_precision": 1}], ids=str)
@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("causal", [0, 1])
def test_merged_heads_and_a_past_agree(agree, heads, causal, options):
    inputs = {
        "q": noise(B, L, H * E),
        "k": noise(B, L, heads * E, seed=1),
        "v": noise(B, L, heads * V, seed=2),
        "mask": None,
        "past_key": noise(B, heads, 2, E, seed=3),
        "past_value": noise(B, heads, 2, V, seed=4),
    }
    heads_given = {"q_num_heads": H, "kv_num_heads": heads}
    agree("Attention", inputs, opset=23, outputs=3, rtol=1e-4, is_causal=causal, **heads_given, **options)


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
def test_scores_agree(agree, mode):
    inputs = {**qkv(), "mask": noise(L, S), "past_key": noise(B, G, 0, E), "past_value": noise(B, G, 0, V)}
    agree("Attention", inputs, opset=23, outputs=4, rtol=1e-4, softcap=1.5, qk_matmul_output_mode=mode)


def test_half_precision_agrees(agree):
    inputs = qkv(groups=H, dtype=np.float16)
    agree("Attention", inputs, opset=24, rtol=2e-3, atol=2e-3, is_causal=1)


def forbidden(*_, **__):
    raise AssertionError("the fused kernel was called")


def test_only_what_the_fused_kernel_cannot_do_goes_step_by_step(monkeypatch):
    q, k, v = (torch.from_numpy(array) for array in qkv().values())
    expected = attention(q, k, v, is_causal=1)[0]
    monkeypatch.setattr(F, "scaled_dot_product_attention", forbidden)
    with pytest.raises(AssertionError, match="fused"):
        attention(q, k, v, softmax_precision=1)
    with pytest.raises(AssertionError, match="fused"):
        attention(q, k, v, output_count=3)
    torch.testing.assert_close(attention(q, k, v, is_causal=1, output_count=4)[0], expected)
    torch.testing.assert_close(attention(q, k, v, is_causal=1, softcap=1e6)[0], expected)
    torch.testing.assert_close(attention(q, k, v, is_causal=1, softmax_precision=11)[0], expected)


def test_the_plain_causal_mask_is_left_to_the_kernel(monkeypatch):
    calls = []
    kernel = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F,
        "scaled_dot_product_attention",
        lambda *args, **keys: calls.append((args[3], keys["is_causal"])) or kernel(*args, **keys),
    )
    q, k, v = (torch.from_numpy(array) for array in qkv().values())
    attention(q, k, v, is_causal=1)
    attention(q, k, v, right_window_size=0)
    assert calls == [(None, True), (None, True)]
    attention(q, k, v, is_causal=1, left_window_size=1)
    assert calls[2][0].dtype == torch.bool
    assert not calls[2][1]


BLIND = torch.ones(L, S, dtype=torch.bool).index_fill(0, torch.tensor([1]), False)


@pytest.mark.parametrize("mask", [BLIND, torch.zeros(L, S).masked_fill(~BLIND, -torch.inf)], ids=["boolean", "added"])
@pytest.mark.parametrize("compute", [fused_attention, stepwise_attention])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_query_that_sees_nothing_gives_zeros_and_finite_gradients(compute, mask, dtype):
    leaves = [tensor(*array.shape, seed=k, dtype=dtype) for k, array in enumerate(qkv().values())]
    mask = mask if mask.dtype == torch.bool else mask.to(dtype)
    y = compute(*leaves, mask, scale=None)
    y = y[0] if isinstance(y, tuple) else y
    assert (y[:, :, 1] == 0).all()
    assert (y[:, :, 0] != 0).all()
    for gradient in torch.autograd.grad(y.square().sum(), leaves):
        assert gradient.isfinite().all()
        assert gradient.count_nonzero()


@pytest.mark.parametrize("options", [{}, {"is_causal": 1}, {"softcap": 0.8}, {"left_window_size": 1}], ids=str)
def test_gradients_are_right(options):
    q, k, v = tensor(1, 2, 3, 4), tensor(1, 1, 3, 4, seed=1), tensor(1, 1, 3, 2, seed=2)
    bias = tensor(1, 2, 3, 3, seed=3)
    assert torch.autograd.gradcheck(lambda *leaves: attention(*leaves, **options)[0], (q, k, v, bias))


def test_windows_narrow_what_each_query_sees():
    q, k, v = (tensor(*array.shape, seed=n, grad=False) for n, array in enumerate(qkv(queries=S).values()))
    distance = torch.arange(S) - torch.arange(S)[:, None]
    allowed = (distance >= -2) & (distance <= 1)
    expected = F.scaled_dot_product_attention(q, k, v, allowed, enable_gqa=True)
    torch.testing.assert_close(attention(q, k, v, left_window_size=2, right_window_size=1)[0], expected)


def test_half_of_a_past_is_refused():
    q, k, v = (torch.from_numpy(array) for array in qkv().values())
    with pytest.raises(ValueError, match="together"):
        attention(q, k, v, None, k)
    with pytest.raises(ValueError, match="outside"):
        attention(q, k, v, None, k, v, torch.tensor([3, 4]))


def flex_model():
    """Attention whose scores pass through Tanh."""
    scores, changed = (helper.make_tensor_value_info(name, 1, [None] * 4) for name in "st")
    body = helper.make_graph([helper.make_node("Tanh", ["s"], ["t"])], "body", [scores], [changed])
    node = helper.make_node("FlexAttention", ["q", "k", "v"], ["y"], domain="ai.onnx.preview", score_mod=body)
    inputs = [helper.make_tensor_value_info(name, 1, array.shape) for name, array in qkv().items()]
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", 1, [B, H, L, V])])
    opsets = [helper.make_opsetid("", 26), helper.make_opsetid("ai.onnx.preview", 1)]
    return OnnxModule(load_graph(helper.make_model(graph, opset_imports=opsets)))


def test_gradients_pass_the_subgraph_of_flex_attention():
    feed = {name: torch.from_numpy(array).requires_grad_() for name, array in qkv().items()}
    y = flex_model()(feed)["y"]
    q, k, v = feed.values()
    weights = torch.softmax(torch.tanh(q @ k.repeat_interleave(2, 1).mT / E**0.5), -1)
    expected = weights @ v.repeat_interleave(2, 1)
    torch.testing.assert_close(y, expected)
    got, wanted = (torch.autograd.grad(z.square().sum(), [q, k, v]) for z in (y, expected))
    torch.testing.assert_close(got, wanted)


def test_flex_attention_without_subgraphs_is_one_call(monkeypatch):
    q, k, v = (torch.from_numpy(array) for array in qkv().values())
    expected = flex_attention(q, k, v, run_body=forbidden)
    monkeypatch.setattr(F, "scaled_dot_product_attention", forbidden)
    with pytest.raises(AssertionError, match="fused"):
        flex_attention(q, k, v, run_body=forbidden)
    torch.testing.assert_close(flex_attention(q, k, v, softmax_precision=11, run_body=forbidden), expected)


def test_a_wrong_shape_is_named():
    module = flex_model()
    with pytest.raises(ModelError, match=r"FlexAttention.*k\[2, 2, 5, 3\]"):
        module({**qkv(), "k": noise(B, G, S, 3)})
