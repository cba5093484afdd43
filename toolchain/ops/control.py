"""Control flow: subgraphs that run if, or as long as, values say so."""

import torch
from torch import Tensor

from toolchain.graph import Body
from toolchain.ops.registry import RunBody, op

# Exporters write the largest integer as the count of a loop that its condition ends; one that nothing ends is damage.
MAX_TRIPS = 2**20


@op("If")
def if_(condition: Tensor, *, then_branch: Body, else_branch: Body, run_body: RunBody) -> tuple[Tensor, ...]:
    """The outputs of one branch or the other."""
    return tuple(run_body(then_branch if bool(condition) else else_branch, []))


@op("Loop")
def loop(
    trip_count: list[int] | None, condition: Tensor | None, *initial: Tensor, body: Body, run_body: RunBody
) -> tuple[Tensor, ...]:
    """Run ``body`` until its condition fails or the count is reached.

    The body takes the iteration, the condition and the carried values, and gives the condition, the carried values and
    what is stacked over the iterations.

    Raises:
        ValueError: the loop does not end within ``MAX_TRIPS`` iterations.
    """
    carried, scanned = list(initial), [list[Tensor]() for _ in body.outputs[len(initial) + 1 :]]
    proceed = torch.tensor(True) if condition is None else condition
    limit = trip_count[0] if trip_count else None
    iteration = 0
    while bool(proceed) and (limit is None or iteration < limit):
        if iteration >= MAX_TRIPS:
            raise ValueError(f"the loop has not ended after {MAX_TRIPS:,} iterations")
        proceed, *rest = run_body(body, [torch.tensor(iteration), proceed, *carried])
        carried = rest[: len(initial)]
        for collected, item in zip(scanned, rest[len(initial) :], strict=True):
            collected.append(item)
        iteration += 1
    return (*carried, *map(_stack, scanned))


def _stack(items: list[Tensor]) -> Tensor:
    if not items:
        raise ValueError("the loop ran zero times, so the shape of what it collects is not known")
    return torch.stack(items)


@op("Scan", since=9)
def scan(
    *values: Tensor,
    body: Body,
    num_scan_inputs: int,
    scan_input_axes: list[int] | None = None,
    scan_input_directions: list[int] | None = None,
    scan_output_axes: list[int] | None = None,
    scan_output_directions: list[int] | None = None,
    run_body: RunBody,
) -> tuple[Tensor, ...]:
    """Run ``body`` over slices of the last ``num_scan_inputs`` values, carrying the first ones along."""
    states, inputs = list(values[:-num_scan_inputs]), values[-num_scan_inputs:]
    axes, directions = scan_input_axes or [0] * len(inputs), scan_input_directions or [0] * len(inputs)
    slices = [_slices(x, axis, backwards) for x, axis, backwards in zip(inputs, axes, directions, strict=True)]
    count = len(body.outputs) - len(states)
    scanned: list[list[Tensor]] = [[] for _ in range(count)]
    for items in zip(*slices, strict=True):
        results = run_body(body, [*states, *items])
        states = results[: len(states)]
        for collected, item in zip(scanned, results[len(states) :], strict=True):
            collected.append(item)
    axes, directions = scan_output_axes or [0] * count, scan_output_directions or [0] * count
    outputs = [
        _stack(items[::-1] if backwards else items).movedim(0, axis)
        for items, axis, backwards in zip(scanned, axes, directions, strict=True)
    ]
    return (*states, *outputs)


def _slices(x: Tensor, axis: int, backwards: int) -> list[Tensor]:
    slices = list(x.unbind(axis))
    return slices[::-1] if backwards else slices
