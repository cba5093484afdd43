"""Rotary position embedding, of ai.onnx and as ONNX Runtime had it before (https://arxiv.org/abs/2104.09864)."""

import torch
from torch import Tensor

from toolchain.graph import Node
from toolchain.ops.attention_core import merge_heads, split_heads
from toolchain.ops.registry import op


def rotate(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    """Turn each pair of numbers of a head by the angle of its token.

    Args:
        x: ``[B, H, L, E]``; what is beyond twice the number of angles stays as it is.
        cos: ``[B, L, R]`` or ``[1, L, R]``, of the angles.
        sin: likewise.
        interleaved: pairs are neighbours; else number i goes with number i + R.
    """
    size = 2 * cos.shape[-1]
    cos, sin = cos[:, None], sin[:, None]
    turned, rest = (x, None) if size == x.shape[-1] else (x[..., :size], x[..., size:])
    a, b = (turned[..., 0::2], turned[..., 1::2]) if interleaved else turned.chunk(2, -1)
    parts = [cos * a - sin * b, sin * a + cos * b]
    turned = torch.stack(parts, -1).flatten(-2) if interleaved else torch.cat(parts, -1)
    return turned if rest is None else torch.cat([turned, rest], -1)


@op("RotaryEmbedding", since=23)
def rotary_embedding(
    x: Tensor,
    cos_cache: Tensor,
    sin_cache: Tensor,
    position_ids: Tensor | None = None,
    *,
    interleaved: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
) -> Tensor:
    """Turn ``[B, H, L, E]`` or ``[B, L, H * E]`` by the angles ``[B, L, R]``, or by those of ``position_ids``.

    How many numbers of a head turn is twice the last dimension of the caches, which ``rotary_embedding_dim`` repeats.
    """
    if position_ids is not None:
        cos_cache, sin_cache = cos_cache[position_ids], sin_cache[position_ids]
    if rotary_embedding_dim not in (0, 2 * cos_cache.shape[-1]):
        raise ValueError(f"{cos_cache.shape[-1]} angles do not turn {rotary_embedding_dim} numbers")
    heads = split_heads(x, num_heads) if x.ndim == 3 else x
    turned = rotate(heads, cos_cache, sin_cache, bool(interleaved))
    return merge_heads(turned) if x.ndim == 3 else turned


def _refuse_rotary_embedding(node: Node) -> str:
    if node.attributes.get("is_packed_batching"):
        return "is_packed_batching=1 packs sequences of several lengths into one"
    return "" if node.attributes.get("scale", 1.0) == 1.0 else "scale has no documented meaning"


@op("RotaryEmbedding", domain="com.microsoft", refuses=_refuse_rotary_embedding)
def microsoft_rotary_embedding(
    x: Tensor,
    position_ids: Tensor,
    cos_cache: Tensor,
    sin_cache: Tensor,
    *,
    interleaved: int = 0,
    is_packed_batching: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
    scale: float = 1.0,
) -> Tensor:
    """Turn ``[B, H, L, E]`` or ``[B, L, H * E]`` by the angles of positions ``[B, L]``, or from position ``[1]`` on."""
    if position_ids.ndim == 1:
        length = x.shape[1] if x.ndim == 3 else x.shape[2]
        position_ids = (position_ids + torch.arange(length, device=x.device))[None]
    if x.ndim == 3 and not num_heads:  # then whole heads turn
        num_heads = x.shape[2] // (2 * cos_cache.shape[-1])
    return rotary_embedding(
        x,
        cos_cache,
        sin_cache,
        position_ids,
        interleaved=interleaved,
        num_heads=num_heads,
        rotary_embedding_dim=rotary_embedding_dim,
    )
