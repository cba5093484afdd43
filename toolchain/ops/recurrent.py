"""Recurrent layers.

Layers with the usual functions run in torch's fused kernels, all others step by step. Inputs and outputs have the
shape ``[time, batch, size]``, or ``[batch, time, size]`` where ``layout`` is 1; weights have one row per direction.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name the whole field uses
from torch import Tensor

from toolchain.graph import Node
from toolchain.ops.cells import (
    FUNCTIONS,
    Cell,
    State,
    bind,
    clipped,
    gru_cell,
    lstm_cell,
    rnn_cell,
    scan,
)
from toolchain.ops.registry import Refusal, op

_REVERSED = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
_LSTM_FUNCTIONS = ("Sigmoid", "Tanh", "Tanh")
_GRU_FUNCTIONS = ("Sigmoid", "Tanh")


@dataclass(frozen=True)
class _Kernel:
    """A fused kernel of torch, and at which places it finds its gates in ONNX's order."""

    run: Callable[..., tuple[Tensor, ...]]
    order: tuple[int, ...]


_LSTM = _Kernel(torch.lstm, (0, 2, 3, 1))  # ONNX has input, output, forget, cell; torch input, forget, cell, output
_GRU = _Kernel(torch.gru, (1, 0, 2))  # ONNX has update, reset, hidden; torch reset, update, hidden
_RNN = {"Tanh": _Kernel(torch.rnn_tanh, (0,)), "Relu": _Kernel(torch.rnn_relu, (0,))}


def _unless_known(count: int) -> Refusal:
    """Return a check of the options of a layer that takes ``count`` activation functions per direction."""

    def refuses(node: Node) -> str:
        options = node.attributes
        wanted = count * len(_REVERSED.get(str(options["direction"]), ()))
        names, clip = options.get("activations"), options.get("clip", 1.0)
        if not wanted:
            return f"direction {options['direction']!r} is not known"
        # RNN's default, which is in the schema, names two whatever the direction.
        if isinstance(names, list) and not (len(names) >= wanted and FUNCTIONS.keys() >= set(names)):
            return f"activations are {names}, where {wanted} of {', '.join(FUNCTIONS)} are wanted"
        return "" if isinstance(clip, float) and clip > 0 else f"clip is {clip!r}"

    return refuses


@op("LSTM", since=7, trainable=(1, 2, 3, 7), refuses=_unless_known(3))
def lstm(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    sequence_lens: list[int] | None = None,
    initial_h: Tensor | None = None,
    initial_c: Tensor | None = None,
    p: Tensor | None = None,
    *,
    activation_alpha: list[float] | None = None,
    activation_beta: list[float] | None = None,
    activations: list[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    input_forget: int = 0,
    layout: int = 0,
) -> tuple[Tensor, ...]:
    """Long short-term memory: all hidden states, the last ones, and the last memories, of each direction."""
    x, states = _time_first(x, r, [initial_h, initial_c], layout)
    lengths = _lengths(sequence_lens, x)
    bias = _biases(b, w)
    names = activations or _LSTM_FUNCTIONS * len(w)
    if lengths is None and clip is None and p is None and not input_forget and (*names,) == _LSTM_FUNCTIONS * len(w):
        return _layout(_fused(_LSTM, x, w, r, bias, states, direction), layout)
    functions = bind(names, activation_alpha or (), activation_beta or ())
    cells = [
        lstm_cell(r[d], bias[d, 1], None if p is None else p[d], functions[3 * d : 3 * d + 3], clip, input_forget)
        for d in range(len(w))
    ]
    return _layout(_stepwise(cells, x, w, bias, states, lengths, direction), layout)


@op("GRU", since=7, trainable=(1, 2, 3), refuses=_unless_known(2))
def gru(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    sequence_lens: list[int] | None = None,
    initial_h: Tensor | None = None,
    *,
    activation_alpha: list[float] | None = None,
    activation_beta: list[float] | None = None,
    activations: list[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
    linear_before_reset: int = 0,
) -> tuple[Tensor, ...]:
    """Gated recurrent units: all hidden states, and the last ones of each direction."""
    x, states = _time_first(x, r, [initial_h], layout)
    lengths = _lengths(sequence_lens, x)
    bias = _biases(b, w)
    names = activations or _GRU_FUNCTIONS * len(w)
    if lengths is None and clip is None and linear_before_reset and (*names,) == _GRU_FUNCTIONS * len(w):
        return _layout(_fused(_GRU, x, w, r, bias, states, direction), layout)
    functions = bind(names, activation_alpha or (), activation_beta or ())
    cells = [gru_cell(r[d], bias[d, 1], functions[2 * d : 2 * d + 2], clip, linear_before_reset) for d in range(len(w))]
    return _layout(_stepwise(cells, x, w, bias, states, lengths, direction), layout)


@op("RNN", since=7, trainable=(1, 2, 3), refuses=_unless_known(1))
def rnn(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    sequence_lens: list[int] | None = None,
    initial_h: Tensor | None = None,
    *,
    activation_alpha: list[float] | None = None,
    activation_beta: list[float] | None = None,
    activations: list[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
) -> tuple[Tensor, ...]:
    """Simple recurrent layer: all hidden states, and the last ones of each direction."""
    x, states = _time_first(x, r, [initial_h], layout)
    lengths = _lengths(sequence_lens, x)
    bias = _biases(b, w)
    names = (activations or ["Tanh", "Tanh"])[: len(w)]
    if lengths is None and clip is None and len(set(names)) == 1 and names[0] in _RNN:
        return _layout(_fused(_RNN[names[0]], x, w, r, bias, states, direction), layout)
    functions = bind(names, activation_alpha or (), activation_beta or ())
    cells = [rnn_cell(r[d], bias[d, 1], clipped(functions[d], clip)) for d in range(len(w))]
    return _layout(_stepwise(cells, x, w, bias, states, lengths, direction), layout)


@op("ReverseSequence", since=10)
def reverse_sequence(x: Tensor, sequence_lens: Tensor, *, batch_axis: int = 1, time_axis: int = 0) -> Tensor:
    """The first ``sequence_lens`` steps of each sequence backwards, the others where they were."""
    rows = x.movedim((batch_axis, time_axis), (0, 1))
    time = torch.arange(rows.shape[1], device=x.device)
    lengths = sequence_lens.unsqueeze(1)
    source = torch.where(time < lengths, lengths - 1 - time, time)
    batch = torch.arange(rows.shape[0], device=x.device).unsqueeze(1)
    return rows[batch, source].movedim((0, 1), (batch_axis, time_axis))


def _time_first(x: Tensor, r: Tensor, states: Sequence[Tensor | None], layout: int) -> tuple[Tensor, State]:
    """Return ``[time, batch, size]`` and states ``[directions, batch, hidden]``, zeros where they are left out."""
    x = x.transpose(0, 1) if layout else x
    empty = x.new_zeros(len(r), x.shape[1], r.shape[2])
    return x, tuple(
        empty if state is None else state.transpose(0, 1).contiguous() if layout else state for state in states
    )


def _lengths(sequence_lens: list[int] | None, x: Tensor) -> Tensor | None:
    """Return the lengths on the device of ``x``, None where all sequences are as long as they can be."""
    steps, batch = x.shape[:2]
    if not steps or not batch:
        raise ValueError("a recurrent layer needs at least one step and one sequence")
    lengths = [steps] * batch if sequence_lens is None else sequence_lens
    if len(lengths) != batch or not all(0 <= length <= steps for length in lengths):
        raise ValueError(f"sequence_lens {lengths} for {batch} sequences of at most {steps} steps")
    return None if min(lengths) == steps else torch.tensor(lengths, device=x.device)


def _biases(b: Tensor | None, w: Tensor) -> Tensor:
    """Return ``[directions, 2, gates * hidden]``: what is added with the input weight, and with the recurrent one."""
    return w.new_zeros(len(w), 2, w.shape[1]) if b is None else torch.unflatten(b, 1, (2, -1))


def _fused(
    kernel: _Kernel, x: Tensor, w: Tensor, r: Tensor, bias: Tensor, states: State, direction: str
) -> tuple[Tensor, ...]:
    """Return the hidden states ``[time, directions, batch, hidden]`` and the final states, by torch's kernel."""
    if len(_REVERSED[direction]) != len(w):
        raise ValueError(f"direction {direction} with weights for {len(w)}")

    def ordered(weight: Tensor) -> Tensor:
        blocks = weight.chunk(len(kernel.order), -2)
        return torch.cat([blocks[place] for place in kernel.order], -2)

    matrices = [ordered(weight) for pair in zip(w, r, strict=True) for weight in pair]
    vectors = [ordered(vector.unsqueeze(-1)).squeeze(-1) for pair in bias for vector in pair]
    # Views of one buffer, matrices first: cuDNN copies weights that lie otherwise, and warns of it, at every call.
    tensors = (*matrices, *vectors)
    sizes = [tensor.numel() for tensor in tensors]
    packed = torch.split_with_sizes(torch.cat([tensor.flatten() for tensor in tensors]), sizes)
    views = [flat.view_as(tensor) for flat, tensor in zip(packed, tensors, strict=True)]
    half = len(matrices)
    weights = [view for d in range(0, half, 2) for view in (*views[d : d + 2], *views[half + d : half + d + 2])]
    backwards = direction == "reverse"
    y, *finals = kernel.run(
        x.flip(0) if backwards else x,
        states if len(states) > 1 else states[0],
        weights,
        True,  # with biases
        1,  # layer
        0.0,  # dropout
        torch.is_grad_enabled(),  # cuDNN keeps what the gradient needs only in training
        len(w) > 1,
        False,  # time comes first
    )
    y = torch.unflatten(y, -1, (len(w), -1)).transpose(1, 2)
    return y.flip(0) if backwards else y, *finals


def _stepwise(
    cells: Sequence[Cell], x: Tensor, w: Tensor, bias: Tensor, states: State, lengths: Tensor | None, direction: str
) -> tuple[Tensor, ...]:
    """Return the hidden states ``[time, directions, batch, hidden]`` and the final states, step by step."""
    outputs, finals = [], []
    for d, (cell, reverse) in enumerate(zip(cells, _REVERSED[direction], strict=True)):
        projected = F.linear(x, w[d], bias[d, 0])
        y, final = scan(cell, projected, tuple(state[d] for state in states), lengths, reverse)
        outputs.append(y)
        finals.append(final)
    return torch.stack(outputs, 1), *(torch.stack(final) for final in zip(*finals, strict=True))


def _layout(results: tuple[Tensor, ...], layout: int) -> tuple[Tensor, ...]:
    """Return ``[time, directions, batch, hidden]`` and final states with the batch first where ``layout`` is 1."""
    y, *finals = results
    return (y.permute(2, 0, 1, 3), *(final.transpose(0, 1) for final in finals)) if layout else results
