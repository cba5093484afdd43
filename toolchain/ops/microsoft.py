"""Sums, norms and gates that exporters and ONNX Runtime's transformer optimizer write (com.microsoft)."""

import torch
import torch.nn.functional as F  # noqa: N812 - the name the whole field uses
from torch import Tensor

from toolchain.graph import Node
from toolchain.ops.creation import trilu
from toolchain.ops.indexing import gather_nd
from toolchain.ops.normalization import layer_norm, rms_norm
from toolchain.ops.registry import op
from toolchain.ops.sampling import grid_sample

DOMAIN = "com.microsoft"

# The same as their namesakes in ai.onnx, which they are older than.
op("GatherND", domain=DOMAIN)(gather_nd)
op("GridSample", domain=DOMAIN)(grid_sample)
op("Trilu", domain=DOMAIN)(trilu)


@op("Inverse", domain=DOMAIN)
def inverse(x: Tensor) -> Tensor:
    """The inverse of every matrix in the last two dimensions."""
    return torch.inverse(x)


@op("BiasAdd", domain=DOMAIN, trainable=(1,))
def bias_add(x: Tensor, bias: Tensor, skip: Tensor) -> Tensor:
    """The sum of all three."""
    return x + bias + skip


@op("BiasGelu", domain=DOMAIN, trainable=(1,))
def bias_gelu(x: Tensor, bias: Tensor) -> Tensor:
    """Gelu of the sum."""
    return F.gelu(x + bias)


@op("FastGelu", domain=DOMAIN, trainable=(1,))
def fast_gelu(x: Tensor, bias: Tensor | None = None) -> Tensor:
    """Gelu of the sum, by its tanh approximation."""
    return F.gelu(x if bias is None else x + bias, approximate="tanh")


@op("BiasSplitGelu", domain=DOMAIN, trainable=(1,))
def bias_split_gelu(x: Tensor, bias: Tensor) -> Tensor:
    """The first half of the sum times Gelu of the second."""
    value, gate = (x + bias).chunk(2, -1)
    return value * F.gelu(gate)


def _refuse_statistics(node: Node) -> str:
    return "mean and inverse deviation are left to graphs that train themselves" if any(node.outputs[1:3]) else ""


def _skip_outputs(y: Tensor, total: Tensor, output_count: int) -> tuple[Tensor, ...]:
    """Return the result and, as the fourth output, the sum; nothing reads the two between."""
    return (y, total, total, total)[:output_count]


@op("SkipLayerNormalization", domain=DOMAIN, trainable=(2, 3, 4), refuses=_refuse_statistics)
def skip_layer_normalization(
    x: Tensor,
    skip: Tensor,
    gamma: Tensor,
    beta: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    epsilon: float = 1e-12,
    output_count: int = 1,
) -> tuple[Tensor, ...]:
    """LayerNormalization of ``x + skip + bias``, and that sum."""
    total = x + skip if bias is None else x + skip + bias
    return _skip_outputs(layer_norm(total, gamma, beta, -1, epsilon), total, output_count)


@op("SkipSimplifiedLayerNormalization", domain=DOMAIN, trainable=(2, 3), refuses=_refuse_statistics)
def skip_simplified_layer_normalization(
    x: Tensor,
    skip: Tensor,
    gamma: Tensor,
    bias: Tensor | None = None,
    *,
    epsilon: float = 1e-12,
    output_count: int = 1,
) -> tuple[Tensor, ...]:
    """RMSNormalization of ``x + skip + bias``, and that sum."""
    total = x + skip if bias is None else x + skip + bias
    return _skip_outputs(rms_norm(total, gamma, -1, epsilon), total, output_count)


@op("EmbedLayerNormalization", domain=DOMAIN, trainable=(2, 3, 4, 5, 6))
def embed_layer_normalization(
    input_ids: Tensor,
    segment_ids: Tensor | None,
    word_embedding: Tensor,
    position_embedding: Tensor,
    segment_embedding: Tensor | None,
    gamma: Tensor,
    beta: Tensor,
    mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    *,
    epsilon: float = 1e-12,
    mask_index_type: int = 0,
    output_count: int = 1,
) -> tuple[Tensor, ...]:
    """LayerNormalization of embedded words, positions and segments.

    Inputs:
        input_ids: ``[B, L]``.
        segment_ids: ``[B, L]``.
        word_embedding: ``[words, D]``.
        position_embedding: ``[positions, D]``.
        segment_embedding: ``[segments, D]``.
        gamma: ``[D]``.
        beta: ``[D]``.
        mask: 1 at words and 0 at padding, ``[B, L]``.
        position_ids: ``[B, L]`` or ``[1, L]``, counted from 0 if left out.

    Returns ``[B, L, D]``, how many words each row of ``mask`` has ``[B]``, and what was normalised.
    """
    length = input_ids.shape[1]
    positions = position_embedding[:length] if position_ids is None else F.embedding(position_ids, position_embedding)
    total = F.embedding(input_ids, word_embedding) + positions
    if segment_ids is not None and segment_embedding is not None:
        total = total + F.embedding(segment_ids, segment_embedding)
    words = input_ids.new_zeros(input_ids.shape[0]) if mask is None else (mask == 1).sum(1, dtype=mask.dtype)
    return (layer_norm(total, gamma, beta, -1, epsilon), words, total)[:output_count]
