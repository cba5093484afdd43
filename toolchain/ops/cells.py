"""Cells of recurrent layers with any activation functions, and the loop that runs them over time.

Whatever the ONNX text leaves open (defaults of activation parameters, what the clip applies to, empty sequences) is as
ONNX Runtime's CPU kernels have it.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the name the whole field uses
from torch import Tensor

Activation = Callable[[Tensor], Tensor]
State = tuple[Tensor, ...]
# What the input adds to the gates [batch, gates * hidden] and the state before -> the state after, hidden state first.
Cell = Callable[[Tensor, State], State]

FUNCTIONS: dict[str, Callable[[Tensor, float, float], Tensor]] = {
    "Affine": lambda x, alpha, beta: alpha * x + beta,
    "Elu": lambda x, alpha, _: F.elu(x, alpha),
    "HardSigmoid": lambda x, alpha, beta: (alpha * x + beta).clamp(0, 1),
    "LeakyRelu": lambda x, alpha, _: F.leaky_relu(x, alpha),
    "Relu": lambda x, *_: torch.relu(x),
    "ScaledTanh": lambda x, alpha, beta: alpha * torch.tanh(beta * x),
    "Sigmoid": lambda x, *_: torch.sigmoid(x),
    "Softplus": lambda x, *_: F.softplus(x),
    "Softsign": lambda x, *_: F.softsign(x),
    "Tanh": lambda x, *_: torch.tanh(x),
    "ThresholdedRelu": lambda x, alpha, _: F.threshold(x, alpha, 0.0),
}
_DEFAULTS = {"Elu": (1.0, 0.0), "HardSigmoid": (0.2, 0.5), "LeakyRelu": (0.01, 0.0)}  # the others: 0 and 0
_WITH_ALPHA = ("Affine", "Elu", "HardSigmoid", "LeakyRelu", "ScaledTanh", "ThresholdedRelu")
_WITH_BETA = ("Affine", "HardSigmoid", "ScaledTanh")


def bind(names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]) -> list[Activation]:
    """Return the functions; each that has parameters takes the next of ``alphas`` and ``betas``, while there are."""
    alpha_values, beta_values = iter(alphas), iter(betas)
    found = []
    for name in names:
        alpha, beta = _DEFAULTS.get(name, (0.0, 0.0))
        alpha = next(alpha_values, alpha) if name in _WITH_ALPHA else alpha
        beta = next(beta_values, beta) if name in _WITH_BETA else beta
        found.append(_bound(FUNCTIONS[name], alpha, beta))
    return found


def _bound(function: Callable[[Tensor, float, float], Tensor], alpha: float, beta: float) -> Activation:
    return lambda x: function(x, alpha, beta)


def clipped(function: Activation, limit: float | None) -> Activation:
    """Return ``function`` of its argument kept within ``-limit`` and ``limit``."""
    return function if limit is None else lambda x: function(x.clamp(-limit, limit))


def lstm_cell(
    r: Tensor, bias: Tensor, p: Tensor | None, functions: Sequence[Activation], clip: float | None, input_forget: int
) -> Cell:
    """Return a long short-term memory cell.

    Args:
        r: recurrent weight ``[4 * hidden, hidden]``, gates in the order input, output, forget, cell.
        bias: ``[4 * hidden]``, added with the recurrent weight.
        p: peephole weights ``[3 * hidden]`` of the input, output and forget gates.
        functions: of the gates, of the cell's input, and of the memory as it is put out.
        clip: bound of what goes into the first two functions; the memory is not clipped.
        input_forget: whether the forget gate is one minus the input gate.
    """
    gate, inner = (clipped(function, clip) for function in functions[:2])
    outer = functions[2]
    peepholes = (None, None, None) if p is None else p.chunk(3)

    def look(x: Tensor, memory: Tensor, weight: Tensor | None) -> Tensor:
        return gate(x if weight is None else x + weight * memory)

    def step(projected: Tensor, state: State) -> State:
        hidden, memory = state
        i, o, f, c = (projected + F.linear(hidden, r, bias)).chunk(4, -1)
        enter = look(i, memory, peepholes[0])
        keep = 1 - enter if input_forget else look(f, memory, peepholes[2])
        memory = keep * memory + enter * inner(c)
        return look(o, memory, peepholes[1]) * outer(memory), memory

    return step


def gru_cell(
    r: Tensor, bias: Tensor, functions: Sequence[Activation], clip: float | None, linear_before_reset: int
) -> Cell:
    """Return a gated recurrent unit.

    Args:
        r: recurrent weight ``[3 * hidden, hidden]``, gates in the order update, reset, hidden.
        bias: ``[3 * hidden]``, added with the recurrent weight.
        functions: of the update and reset gates, and of the hidden gate.
        clip: bound of what goes into them.
        linear_before_reset: whether the reset gate acts on the product with the recurrent weight, not on the state.
    """
    gate, inner = (clipped(function, clip) for function in functions)
    size = r.shape[1]
    sizes = [2 * size, size]

    def linear_first(projected: Tensor, state: State) -> State:
        gates, candidate = torch.split_with_sizes(projected, sizes, -1)
        recurrent_gates, recurrent = torch.split_with_sizes(F.linear(state[0], r, bias), sizes, -1)
        update, reset = gate(gates + recurrent_gates).chunk(2, -1)
        return ((1 - update) * inner(candidate + reset * recurrent) + update * state[0],)

    (r_gates, r_hidden), (bias_gates, bias_hidden) = (torch.split_with_sizes(item, sizes) for item in (r, bias))

    def reset_first(projected: Tensor, state: State) -> State:
        gates, candidate = torch.split_with_sizes(projected, sizes, -1)
        update, reset = gate(gates + F.linear(state[0], r_gates, bias_gates)).chunk(2, -1)
        recurrent = F.linear(reset * state[0], r_hidden, bias_hidden)
        return ((1 - update) * inner(candidate + recurrent) + update * state[0],)

    return linear_first if linear_before_reset else reset_first


def rnn_cell(r: Tensor, bias: Tensor, function: Activation) -> Cell:
    """Return a simple recurrent cell with recurrent weight ``r`` ``[hidden, hidden]`` and its ``bias``."""
    return lambda projected, state: (function(projected + F.linear(state[0], r, bias)),)


def scan(cell: Cell, projected: Tensor, state: State, lengths: Tensor | None, reverse: bool) -> tuple[Tensor, State]:
    """Run ``cell`` over time.

    Args:
        cell: what a step does.
        projected: ``[time, batch, gates * hidden]``, what the input adds to the gates.
        state: ``[batch, hidden]`` each, the hidden state first.
        lengths: ``[batch]``, where a sequence ends before the last step. From there on its outputs are zeros and its
            state stays, so that a reversed sequence starts from its own end; the final state of an empty one is zeros.
        reverse: whether to go from the last step to the first.

    Returns:
        The hidden states ``[time, batch, hidden]``, in the order of the input, and the final state.
    """
    outputs = []
    steps = list(enumerate(projected.unbind()))  # a slice per step would make the gradient quadratic in time
    for time, row in reversed(steps) if reverse else steps:
        after = cell(row, state)
        if lengths is None:
            state = after
            outputs.append(state[0])
        else:
            inside = (lengths > time).unsqueeze(-1)
            state = tuple(torch.where(inside, new, old) for new, old in zip(after, state, strict=True))
            outputs.append(torch.where(inside, after[0], 0))
    if lengths is not None:
        state = tuple(torch.where((lengths > 0).unsqueeze(-1), final, 0) for final in state)
    return torch.stack(outputs[::-1] if reverse else outputs), state
