"""Attention of ai.onnx. Shapes are named as in ``attention_core``."""

from math import inf

import torch
import torch.nn.functional as F  # noqa: N812 - the name the whole field uses
from torch import Tensor

from toolchain.graph import Body
from toolchain.ops.attention_core import (
    append,
    for_heads,
    fused_attention,
    merge_heads,
    scores,
    split_heads,
    stepwise_attention,
    visible,
)
from toolchain.ops.dtypes import torch_dtype
from toolchain.ops.registry import RunBody, op


def _fuses(dtype: torch.dtype, precision: torch.dtype | None) -> bool:
    """Whether the fused kernel, which takes at least float32 for its softmax, honours the ``precision`` asked for."""
    return precision in (None, dtype, torch.promote_types(dtype, torch.float32))


def _given(mask: Tensor, keys: int, dtype: torch.dtype) -> Tensor:
    """Return the mask as ``[.., .., .., S]``, boolean or in ``dtype``; keys that it does not reach are hidden."""
    hidden = False if mask.dtype == torch.bool else -inf
    mask = mask if mask.dtype == torch.bool else mask.to(dtype)
    if mask.shape[-1] < keys:
        mask = F.pad(mask, (0, keys - mask.shape[-1]), value=hidden)
    return mask.reshape((1,) * (4 - mask.ndim) + mask.shape)


def _joined(mask: Tensor | None, seen: Tensor) -> Tensor:
    """Return a mask that shows what both ``mask`` and the boolean ``seen`` show."""
    if mask is None:
        return seen
    return mask & seen if mask.dtype == torch.bool else torch.where(seen, mask, -inf)


def _mask(
    q: Tensor, keys: int, given: Tensor | None, past: int, lengths: Tensor | None, window: tuple[int, int]
) -> Tensor | None:
    """Return the given mask without what lies beyond the ``lengths`` of the sequences and outside the window."""
    mask = None if given is None else _given(given, keys, q.dtype)
    offset: int | Tensor = past
    if lengths is not None:
        lengths = lengths.reshape(-1, 1, 1, 1)
        mask, offset = _joined(mask, torch.arange(keys, device=q.device) < lengths), lengths - q.shape[2]
    if window == (-1, -1):
        return mask
    return _joined(mask, visible(q.shape[2], keys, offset, *window, q.device))


@op("Attention", since=23)
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    nonpad_kv_seqlen: Tensor | None = None,
    *,
    is_causal: int = 0,
    kv_num_heads: int = 0,
    left_window_size: int = -1,
    q_num_heads: int = 0,
    qk_matmul_output_mode: int = 0,
    right_window_size: int = -1,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int = 0,
    output_count: int = 1,
) -> tuple[Tensor, ...]:
    """Attention over ``[B, H, L, E]`` or ``[B, L, H * E]``.

    Returns the result, all keys, all values, and the scores ``[B, H, L, S]``, as many as are asked for.

    Inputs:
        q: query.
        k: key.
        v: value.
        attn_mask: True where a query sees a key, or what is added to its score; broadcasts to ``[B, H, L, S]``.
        past_key: ``[B, G, P, E]``, put before the keys.
        past_value: ``[B, G, P, V]``, put before the values.
        nonpad_kv_seqlen: of each sequence, how many keys are no padding: ``[B]``.
    """
    if (past_key is None) != (past_value is None):
        raise ValueError("past_key and past_value go together")
    if past_key is not None and nonpad_kv_seqlen is not None:
        raise ValueError("nonpad_kv_seqlen describes a cache kept outside, past_key one kept inside")
    merged = q.ndim == 3
    if merged:
        q, k, v = split_heads(q, q_num_heads), split_heads(k, kv_num_heads), split_heads(v, kv_num_heads)
    k, v = append(past_key, k), append(past_value, v)
    past = 0 if past_key is None else past_key.shape[2]
    window = (left_window_size, 0 if is_causal else right_window_size)
    precision = torch_dtype(softmax_precision) if softmax_precision else None
    if output_count < 4 and not softcap and _fuses(q.dtype, precision):
        # The kernel knows the plain causal mask by itself, and is faster for it.
        causal = window == (-1, 0) and not past and attn_mask is None and nonpad_kv_seqlen is None
        mask = None if causal else _mask(q, k.shape[2], attn_mask, past, nonpad_kv_seqlen, window)
        y, shown = fused_attention(q, k, v, mask, scale=scale, causal=causal), None
    else:
        mask = _mask(q, k.shape[2], attn_mask, past, nonpad_kv_seqlen, window)
        y, shown = stepwise_attention(
            q, k, v, mask, scale=scale, softcap=softcap, precision=precision, shows=qk_matmul_output_mode
        )
    return (merge_heads(y) if merged else y, k, v, *(() if shown is None else (shown,)))[:output_count]


@op("FlexAttention", domain="ai.onnx.preview")
def flex_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    prob_mod: Body | None = None,
    scale: float | None = None,
    score_mod: Body | None = None,
    softmax_precision: int = 0,
    run_body: RunBody,
) -> Tensor:
    """Attention over ``[B, H, L, E]`` whose scores and probabilities may each pass through a subgraph."""
    precision = torch_dtype(softmax_precision) if softmax_precision else torch.promote_types(q.dtype, torch.float32)
    if prob_mod is None and score_mod is None and _fuses(q.dtype, precision):
        return fused_attention(q, k, v, None, scale=scale)
    weights = scores(q, k, scale).to(precision)
    if score_mod is not None:
        (weights,) = run_body(score_mod, [weights])
    weights = torch.softmax(weights, -1)
    if prob_mod is not None:
        (weights,) = run_body(prob_mod, [weights])
    return (weights @ for_heads(v, q).to(precision)).to(v.dtype)
