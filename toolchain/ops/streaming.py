"""Operators that run over a sequence piece by piece: each takes the state of the piece before and returns its own."""

import torch
import torch.nn.functional as F  # noqa: N812 - the name the whole field uses
from torch import Tensor

from toolchain.graph import Node
from toolchain.ops.registry import op


def _other_convolution(node: Node) -> str:
    if node.attributes.get("activation", "none") not in ("none", "silu", "swish"):
        return f"activation {node.attributes['activation']!r} is not known"
    usual = {"channels_last": 0, "ndim": 1, "state_window": 0}
    other = [name for name, value in usual.items() if node.attributes.get(name, value) != value]
    return f"{', '.join(other)} are not the default" if other else ""


@op("CausalConvWithState", since=1, domain="com.microsoft", trainable=(1, 2), refuses=_other_convolution)
@op("CausalConvWithState", since=27, trainable=(1, 2), refuses=_other_convolution)
def causal_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    past: Tensor | None = None,
    *,
    activation: str = "none",
    channels_last: int = 0,
    dilation: int = 1,
    ndim: int = 1,
    state_window: int = 0,
) -> tuple[Tensor, Tensor]:
    """Convolution of each channel with its past, and the end of the sequence that the next piece needs.

    Args:
        x: ``[batch, channels, time]``.
        weight: ``[channels, 1, taps]``.
        bias: ``[channels]``.
        past: ``[batch, channels, (taps - 1) * dilation]``, zeros by default.
        activation: ``none``, or ``silu`` under either of its names.
        channels_last: as all below, an extension of ONNX Runtime's own operator; only 0 is imported.
        dilation: steps from one tap to the next.
        ndim: only 1 is imported.
        state_window: only 0 is imported.
    """
    reach = (weight.shape[2] - 1) * dilation
    sequence = F.pad(x, (reach, 0)) if past is None else torch.cat([past, x], 2)
    y = F.conv1d(sequence, weight, bias, dilation=dilation, groups=x.shape[1])
    return y if activation == "none" else F.silu(y), sequence[:, :, sequence.shape[2] - reach :]


_RULES = {"linear": (False, False), "gated": (True, False), "delta": (False, True), "gated_delta": (True, True)}


def _other_rule(node: Node) -> str:
    if node.attributes.get("state_window"):
        return "state_window keeps several states"
    rule = str(node.attributes.get("update_rule", "gated_delta"))
    given = tuple(len(node.inputs) > position and bool(node.inputs[position]) for position in (4, 5))
    return (
        "" if _RULES.get(rule) == given else f"update_rule {rule!r} does not go with the decay and beta that are given"
    )


@op("LinearAttention", since=1, domain="com.microsoft", refuses=_other_rule)
@op("LinearAttention", since=27, refuses=_other_rule)
def linear_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past: Tensor | None = None,
    decay: Tensor | None = None,
    beta: Tensor | None = None,
    *,
    kv_num_heads: int,
    q_num_heads: int,
    chunk_size: int = 64,
    scale: float = 0.0,
    state_window: int = 0,
    update_rule: str = "gated_delta",
) -> tuple[Tensor, Tensor]:
    """Attention by a matrix that is a memory of keys and values, and that matrix after the last step.

    Computes in single precision at least, as the definition does.

    Args:
        query: ``[batch, time, q_num_heads * size]``.
        key: ``[batch, time, kv_num_heads * size]``; each of its heads serves neighbouring heads of the query.
        value: ``[batch, time, kv_num_heads * width]``.
        past: ``[batch, kv_num_heads, size, width]``, zeros by default.
        decay: ``[batch, time, kv_num_heads or kv_num_heads * size]``, the logarithm of what remains of the memory.
        beta: ``[batch, time, kv_num_heads or 1]``, how much of a value's error is corrected.
        kv_num_heads: heads of key and value.
        q_num_heads: heads of the query.
        chunk_size: does not change values.
        scale: of the output, 0 for ``1 / sqrt(size)``.
        state_window: only 0 is imported.
        update_rule: decay and correction are on where ``decay`` and ``beta`` are given.
    """
    precision = torch.promote_types(query.dtype, torch.float32)

    def steps(x: Tensor, heads: int) -> tuple[Tensor, ...]:
        return torch.unflatten(x.to(precision), -1, (heads, -1)).unbind(1)

    groups = q_num_heads // kv_num_heads
    queries, keys, values = steps(query, q_num_heads), steps(key, kv_num_heads), steps(value, kv_num_heads)
    shape = (len(query), kv_num_heads, keys[0].shape[-1], values[0].shape[-1])
    memory = query.new_zeros(shape, dtype=precision) if past is None else past.to(precision)
    remains = None if decay is None else steps(decay.to(precision).exp(), kv_num_heads)
    rates = None if beta is None else steps(beta, beta.shape[-1])
    outputs = []
    for time, (q, k, v) in enumerate(zip(queries, keys, values, strict=True)):
        if remains is not None:
            memory = memory * remains[time].unsqueeze(-1)
        written = v
        if rates is not None:
            written = rates[time] * (v - (k.unsqueeze(-2) @ memory).squeeze(-2))
        memory = memory + k.unsqueeze(-1) * written.unsqueeze(-2)
        outputs.append((torch.unflatten(q, 1, (-1, groups)) @ memory).flatten(1))
    factor = scale or shape[2] ** -0.5
    y = factor * torch.stack(outputs, 1)
    return y.to(query.dtype), memory.to(query.dtype if past is None else past.dtype)
