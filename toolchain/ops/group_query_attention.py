"""Attention with a cache of keys and values as ONNX Runtime's generating models have it (com.microsoft).

Shapes: B batches, H heads of the query and G of key and value, L new tokens, S places in the cache, E the size of a
head, R the angles of a rotary embedding.
"""

from math import inf

import torch
import torch.nn.functional as F  # noqa: N812 - the name the whole field uses
from torch import Tensor

from toolchain.graph import Node
from toolchain.ops.attention_core import fused_attention, merge_heads, split_heads, stepwise_attention, visible
from toolchain.ops.registry import op
from toolchain.ops.rotary import rotate


def _refuse(node: Node) -> str:
    if any(node.attributes.get(name, "NONE") != "NONE" for name in ("k_quant_type", "v_quant_type")):
        return "the cache is quantized"
    if node.attributes.get("sliding_window_cache"):
        return "sliding_window_cache=1 keeps a window of the cache only"
    if node.attributes.get("qk_output"):
        return "qk_output shows scores that ONNX Runtime leaves undefined where they are masked"
    return "only the GPU kernels normalise query and key" if any(node.inputs[14:]) else ""


def _cached(past: Tensor | None, new: Tensor, before: Tensor, size: int) -> Tensor:
    """Return ``[B, G, size, E]``: the first ``before`` rows of the past, then the new rows, then zeros."""
    places = torch.arange(size, device=new.device) - before[:, None]  # which new row lies at each place: [B, S]
    shape = (new.shape[0], new.shape[1], size, new.shape[3])
    rows = places.clamp(0, new.shape[2] - 1)[:, None, :, None].expand(shape)
    cache = new.gather(2, rows).masked_fill((places >= new.shape[2])[:, None, :, None], 0)
    if past is None or not past.shape[2]:
        return cache
    return torch.where((places < 0)[:, None, :, None], F.pad(past, (0, 0, 0, size - past.shape[2])), cache)


def _with_sink(k: Tensor, v: Tensor, bias: Tensor, sink: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return keys, values and bias with one more key of value 0, whose score is the ``[H]`` sink of each head."""
    batch, heads, queries = bias.shape[0], sink.shape[0], bias.shape[2]
    column = sink.reshape(1, -1, 1, 1).expand(batch, heads, queries, 1)
    bias = torch.cat([bias.expand(batch, heads, -1, -1), column], -1)
    return F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1)), bias


def _turned(
    q: Tensor, k: Tensor, cos: Tensor | None, sin: Tensor | None, positions: Tensor, interleaved: int
) -> tuple[Tensor, Tensor]:
    if cos is None or sin is None:
        raise ValueError("do_rotary=1 needs cos_cache and sin_cache")
    angles = cos[positions], sin[positions]
    return rotate(q, *angles, bool(interleaved)), rotate(k, *angles, bool(interleaved))


@op("GroupQueryAttention", domain="com.microsoft", trainable=(11,), refuses=_refuse)
def group_query_attention(
    query: Tensor,
    key: Tensor | None,
    value: Tensor | None,
    past_key: Tensor | None,
    past_value: Tensor | None,
    seqlens_k: Tensor,
    total_sequence_length: list[int],
    cos_cache: Tensor | None = None,
    sin_cache: Tensor | None = None,
    position_ids: Tensor | None = None,
    attention_bias: Tensor | None = None,
    head_sink: Tensor | None = None,
    k_scale: Tensor | None = None,
    v_scale: Tensor | None = None,
    *,
    causal: int = 1,
    do_rotary: int = 0,
    k_quant_type: str = "NONE",
    kv_cache_bit_width: int = 0,
    kv_num_heads: int,
    local_window_size: int = -1,
    num_heads: int,
    qk_norm_epsilon: float = 1e-6,
    qk_output: int = 0,
    rotary_interleaved: int = 0,
    scale: float = 0.0,
    sliding_window_cache: int = 0,
    smooth_softmax: int = -1,
    softcap: float = 0.0,
    v_quant_type: str = "NONE",
    output_count: int = 1,
) -> tuple[Tensor, ...]:
    """Attention of new tokens to a cache that they join; returns ``[B, L, H * E]`` and the caches ``[B, G, S, E]``.

    The rows of padding after the end of a shorter first prompt are those of ONNX Runtime's flash kernel; its other
    kernel, which takes softcap and sinks, places the window of such rows elsewhere.

    Inputs:
        query: ``[B, L, H * E]``, or with key and value ``[B, L, (H + 2 * G) * E]``.
        key: ``[B, L, G * E]``.
        value: ``[B, L, G * E]``.
        past_key: ``[B, G, P, E]``; S is P if that is long enough for all tokens.
        past_value: likewise.
        seqlens_k: of each sequence, how many tokens there are with the new ones, less one: ``[B]``.
        total_sequence_length: of the longest sequence; L means that nothing came before.
        cos_cache: ``[positions, R]``.
        sin_cache: likewise.
        position_ids: ``[B, L]``; counted from what came before if left out.
        attention_bias: added to the scores, ``[B or 1, H or 1, L, total_sequence_length]``.
        head_sink: a score ``[H]`` that takes weight from those of the keys.
        k_scale: of a quantized cache, which is refused.
        v_scale: likewise.
    """
    length, total = query.shape[1], total_sequence_length[0]
    if key is None or value is None:
        size = query.shape[2] // (num_heads + 2 * kv_num_heads)
        query, key, value = torch.split(query, [size * heads for heads in (num_heads, kv_num_heads, kv_num_heads)], -1)
    q, k, v = split_heads(query, num_heads), split_heads(key, kv_num_heads), split_heads(value, kv_num_heads)
    ends = seqlens_k.reshape(-1).to(torch.int64) + 1
    before = torch.zeros_like(ends) if total == length else ends - length
    tokens = before[:, None] + torch.arange(length, device=q.device)  # the place of each new token: [B, L]
    if do_rotary:
        positions = tokens if position_ids is None else position_ids
        if position_ids is not None and total == length:  # of the first prompt, only the first position is read
            positions = tokens + position_ids.reshape(-1)[0]
        q, k = _turned(q, k, cos_cache, sin_cache, positions, rotary_interleaved)
    places = max(total, 0 if past_key is None else past_key.shape[2])
    k, v = _cached(past_key, k, before, places), _cached(past_value, v, before, places)
    seen = visible(length, places, before.reshape(-1, 1, 1, 1), local_window_size - 1, 0 if causal else -1, q.device)
    seen = seen & (torch.arange(places, device=q.device) < ends.reshape(-1, 1, 1, 1))
    y = _attend(
        q, k, v, seen, attention_bias, _sink(head_sink, smooth_softmax, q), scale=scale or None, softcap=softcap
    )
    return (merge_heads(y), k, v)[:output_count]


def _sink(head_sink: Tensor | None, smooth_softmax: int, q: Tensor) -> Tensor | None:
    """Return the sink of each head: the given one, 0 for a smooth softmax, or none."""
    return q.new_zeros(q.shape[1]) if head_sink is None and smooth_softmax == 1 else head_sink


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    seen: Tensor,
    bias: Tensor | None,
    sink: Tensor | None,
    *,
    scale: float | None,
    softcap: float,
) -> Tensor:
    """Return ``[B, H, L, E]`` from the keys ``seen``, a bias on their scores and the sinks."""
    mask = seen
    if bias is not None:
        mask = F.pad(bias, (0, seen.shape[-1] - bias.shape[-1])).where(seen, -inf)
    if sink is not None:
        additive = q.new_zeros(()).where(seen, -inf) if bias is None else mask
        k, v, mask = _with_sink(k, v, additive, sink)
    if softcap:
        return stepwise_attention(q, k, v, mask, scale=scale, softcap=softcap)[0]
    return fused_attention(q, k, v, mask, scale=scale)
