"""Scaled dot-product attention, by torch's fused kernel or step by step.

Shapes: B batches, H heads of the query and G of key and value (each G serves H / G neighbouring heads), L queries,
S keys with those of the past, E and V the sizes of a head.
"""

from math import inf

import torch
import torch.nn.functional as F  # noqa: N812 - the name the whole field uses
from torch import Tensor

# What ``stepwise_attention`` shows beside the result: the scores as multiplied, capped, masked, or the probabilities.
MULTIPLIED, CAPPED, MASKED, PROBABILITIES = range(4)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Return ``[B, L, heads * E]`` as ``[B, heads, L, E]``, a view."""
    return apart(x, heads).transpose(1, 2)


def apart(x: Tensor, heads: int) -> Tensor:
    """Return ``[.., heads * E]`` as ``[.., heads, E]``, a view."""
    return x.view(*x.shape[:-1], heads, x.shape[-1] // heads)


def merge_heads(x: Tensor) -> Tensor:
    """Return ``[B, H, L, E]`` as ``[B, L, H * E]``."""
    return x.transpose(1, 2).flatten(2)


def append(past: Tensor | None, new: Tensor) -> Tensor:
    """Return the keys or values of the past ``[B, G, P, E]`` followed by the new ones."""
    return new if past is None else torch.cat([past, new], dim=2)


def for_heads(x: Tensor, q: Tensor) -> Tensor:
    """Return the keys or values ``x`` once per head of the query ``q``."""
    return x.repeat_interleave(q.shape[1] // x.shape[1], 1)


def scores(q: Tensor, k: Tensor, scale: float | None) -> Tensor:
    """Return ``q @ k.T * scale``; the root of the scale goes to each side, so that half precision does not overflow."""
    root = (q.shape[-1] ** -0.5 if scale is None else scale) ** 0.5
    return torch.matmul(q * root, (for_heads(k, q) * root).mT)


def fused_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, scale: float | None, causal: bool = False
) -> Tensor:
    """Return ``softmax(q @ k.T * scale + mask) @ v`` of shape ``[B, H, L, V]`` from one torch call.

    Args:
        q: ``[B, H, L, E]``.
        k: ``[B, G, S, E]``.
        v: ``[B, G, S, V]``.
        mask: True where a query sees a key, or what is added to its score; broadcasts to ``[B, H, L, S]``. A query
            that sees nothing gives zeros.
        scale: of the scores, ``1 / sqrt(E)`` if None.
        causal: query i sees keys 0 to i; only where there is no ``mask``.
    """
    grouped = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, scale=scale, enable_gqa=grouped)


def stepwise_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    *,
    scale: float | None,
    softcap: float = 0.0,
    precision: torch.dtype | None = None,
    shows: int = MULTIPLIED,
) -> tuple[Tensor, Tensor]:
    """Return what ``fused_attention`` does, and ``[B, H, L, S]`` as it came out of the step that ``shows`` names.

    Args:
        q: ``[B, H, L, E]``.
        k: ``[B, G, S, E]``.
        v: ``[B, G, S, V]``.
        mask: as for ``fused_attention``.
        scale: as for ``fused_attention``.
        softcap: what the scores are bent to stay within, 0 to leave them.
        precision: of the softmax, that of ``q`` if None.
        shows: ``MULTIPLIED``, ``CAPPED``, ``MASKED`` or ``PROBABILITIES``.
    """
    multiplied = scores(q, k, scale)
    capped = softcap * torch.tanh(multiplied / softcap) if softcap else multiplied
    masked, empty = capped, torch.zeros((), dtype=torch.bool, device=q.device)
    if mask is not None:
        bias = torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, -inf) if mask.dtype == torch.bool else mask
        masked, empty = capped + bias, bias.amax(-1, keepdim=True) == -inf
    # A query that sees nothing has no softmax: it is kept out before, so that no NaN gets into the gradients either.
    weights = torch.softmax(masked.masked_fill(empty, 0.0).to(precision or q.dtype), -1)
    weights = weights.masked_fill(empty, 0.0).to(q.dtype)
    return weights @ for_heads(v, q), (multiplied, capped, masked, weights)[shows]


def visible(queries: int, keys: int, offset: int | Tensor, left: int, right: int, device: torch.device) -> Tensor:
    """Return ``[.., L, S]``, True where key j lies within ``left`` before and ``right`` after query i + ``offset``.

    A negative ``left`` or ``right`` leaves that side open. A tensor ``offset`` must broadcast against ``[L, S]``.
    """
    places = torch.arange(queries, device=device)[:, None] + offset
    after = torch.arange(keys, device=device) - places
    seen = torch.ones_like(after, dtype=torch.bool) if right < 0 else after <= right
    return seen if left < 0 else seen & (after >= -left)
