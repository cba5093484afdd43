"""Attention operators of ONNX Runtime (com.microsoft), which its transformer optimizer fuses.

Shapes: B batches, H heads, L queries, S keys with those of the past, E and V the sizes of a head. Unlike in ai.onnx,
a mask is a finite number added to the score, so a query whose keys are all masked weighs them by their scores.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - the name the whole field uses
from torch import Tensor

from toolchain.graph import Node
from toolchain.ops.attention_core import (
    MASKED,
    apart,
    append,
    fused_attention,
    merge_heads,
    split_heads,
    stepwise_attention,
    visible,
)
from toolchain.ops.registry import op


def _kept(mask: Tensor, batch: int, keys: int) -> Tensor:
    """Return ``[B, 1, 1 or L, S]``, True at the keys to attend, from any form of mask that the CPU kernel takes."""
    if mask.ndim in (2, 3):
        return (mask > 0)[:, None, None] if mask.ndim == 2 else (mask > 0)[:, None]
    places = torch.arange(keys, device=mask.device)
    if mask.shape == (batch,):  # where the padding on the right begins
        return (places < mask[:, None])[:, None, None]
    if mask.shape == (2 * batch,):  # the same, then where the padding on the left ends
        end, start = mask.chunk(2)
        return ((places < end[:, None]) & (places >= start[:, None]))[:, None, None]
    raise ValueError(f"a mask of shape {list(mask.shape)} for {batch} sequences cannot be read")


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    attention_bias: Tensor | None,
    *,
    past: int,
    unidirectional: int,
    scale: float | None,
    mask_filter_value: float,
    show_scores: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Return ``[B, L, H * V]`` and, where ``show_scores``, the masked scores ``[B, H, L, S]``.

    ``mask`` hides keys by adding ``mask_filter_value``; ``attention_bias`` is added besides.
    """
    batch, queries, keys = q.shape[0], q.shape[2], k.shape[2]
    if unidirectional and keys - past > queries:
        raise ValueError(f"which of {keys - past} keys {queries} queries may see one way is left open")
    plain = mask is None and attention_bias is None
    causal = bool(unidirectional) and plain and not past and not show_scores
    bias = None
    if mask is not None:
        bias = torch.zeros((), dtype=q.dtype, device=q.device).where(_kept(mask, batch, keys), mask_filter_value)
    if unidirectional and not causal:
        seen = visible(queries, keys, past, -1, 0, q.device)
        lowest = torch.finfo(q.dtype).min
        bias = (torch.zeros((), dtype=q.dtype, device=q.device) if bias is None else bias).where(seen, lowest)
    if attention_bias is not None:
        bias = attention_bias if bias is None else bias + attention_bias
    if show_scores:
        y, scores = stepwise_attention(q, k, v, bias, scale=scale, shows=MASKED)
        return merge_heads(y), scores
    return merge_heads(fused_attention(q, k, v, bias, scale=scale, causal=causal)), None


def _refuse_attention(node: Node) -> str:
    for name in ("do_rotary", "past_present_share_buffer"):
        if node.attributes.get(name):
            return f"{name}=1 is for generation on a GPU"
    return "past_sequence_length belongs to a shared buffer" if any(node.inputs[6:]) else ""


@op("Attention", domain="com.microsoft", trainable=(1, 2), refuses=_refuse_attention)
def attention(
    x: Tensor,
    weights: Tensor,
    bias: Tensor | None = None,
    mask_index: Tensor | None = None,
    past: Tensor | None = None,
    attention_bias: Tensor | None = None,
    past_sequence_length: Tensor | None = None,
    *,
    do_rotary: int = 0,
    mask_filter_value: float = -10000.0,
    num_heads: int,
    past_present_share_buffer: int = 0,
    qkv_hidden_sizes: list[int] | None = None,
    rotary_embedding_dim: int = 0,
    scale: float | None = None,
    unidirectional: int = 0,
    output_count: int = 1,
) -> tuple[Tensor, ...]:
    """Self-attention with its projections; returns ``[B, L, H * V]`` and all keys and values ``[2, B, H, S, E]``.

    Inputs:
        x: ``[B, L, D]``.
        weights: of query, key and value, ``[D, H * E + H * E + H * V]``.
        bias: likewise.
        mask_index: which keys to attend: ``[B, S]``, ``[B, L, S]``, or where sequences end (and begin) ``[B]``.
        past: keys and values before those of ``x``, ``[2, B, H, P, E]``.
        attention_bias: added to the scores, ``[B or 1, H or 1, L, S]``.
    """
    sizes = qkv_hidden_sizes or [weights.shape[1] // 3] * 3
    q, k, v = (split_heads(part, num_heads) for part in torch.split(F.linear(x, weights.T, bias), sizes, -1))
    if past is not None:
        k, v = append(past[0], k), append(past[1], v)
    y, _ = _attend(
        q,
        k,
        v,
        mask_index,
        attention_bias,
        past=k.shape[2] - q.shape[2],
        unidirectional=unidirectional,
        scale=scale,
        mask_filter_value=mask_filter_value,
    )
    return (y, torch.stack([k, v])) if output_count > 1 else (y,)


def _refuse_multi_head_attention(node: Node) -> str:
    return "a shared buffer and beams are for generation" if any(node.inputs[8:]) else ""


def _projected(
    query: Tensor, key: Tensor | None, value: Tensor | None, bias: Tensor | None, heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return query, key and value as ``[B, H, L or S, E or V]`` with their biases added."""
    if key is not None and value is not None and key.ndim == 4:  # of another sequence, biases and all
        return split_heads(query if bias is None else query + bias[: query.shape[2]], heads), key, value
    if key is None:
        packed = query.unbind(3)
    elif value is None:
        packed = (query, *key.unbind(3))
    else:
        packed = (query, key, value)
    parts = [part if part.ndim == 4 else apart(part, heads) for part in packed]
    if bias is not None:
        biases = torch.split(bias, [heads * part.shape[-1] for part in parts])
        parts = [part + apart(b, heads) for part, b in zip(parts, biases, strict=True)]
    q, k, v = (part.transpose(1, 2) for part in parts)
    return q, k, v


@op("MultiHeadAttention", domain="com.microsoft", trainable=(3,), refuses=_refuse_multi_head_attention)
def multi_head_attention(
    query: Tensor,
    key: Tensor | None = None,
    value: Tensor | None = None,
    bias: Tensor | None = None,
    key_padding_mask: Tensor | None = None,
    attention_bias: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    past_sequence_length: Tensor | None = None,
    cache_indirection: Tensor | None = None,
    *,
    mask_filter_value: float = -10000.0,
    num_heads: int,
    scale: float | None = None,
    unidirectional: int = 0,
    output_count: int = 1,
) -> tuple[Tensor, ...]:
    """Attention; returns ``[B, L, H * V]``, all keys, all values, and the masked scores ``[B, H, L, S]``.

    Inputs:
        query: ``[B, L, H * E]``, or with key and value ``[B, L, H, 3, E]``.
        key: ``[B, S, H * E]``, or with the value ``[B, S, H, 2, E]``, or ``[B, H, S, E]``.
        value: ``[B, S, H * V]`` or ``[B, H, S, V]``.
        bias: of query, key and value, ``[H * E + H * E + H * V]``.
        key_padding_mask: which keys to attend: ``[B, S]``, ``[B, L, S]`` or the lengths ``[B]``.
        attention_bias: added to the scores, ``[B or 1, H or 1, L, S]``.
        past_key: before the keys, ``[B, H, P, E]``.
        past_value: before the values, ``[B, H, P, V]``.
    """
    q, k, v = _projected(query, key, value, bias, num_heads)
    k, v = append(past_key, k), append(past_value, v)
    y, scores = _attend(
        q,
        k,
        v,
        key_padding_mask,
        attention_bias,
        past=0 if past_key is None else past_key.shape[2],
        unidirectional=unidirectional,
        scale=scale,
        mask_filter_value=mask_filter_value,
        show_scores=output_count > 3,
    )
    return (y, k, v, *(() if scores is None else (scores,)))[:output_count]
