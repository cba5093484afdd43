"""Reshape and its kin: a dimension is split, or several are merged, and channels run along one of the parts."""

from itertools import pairwise
from math import prod

from toolchain.channels.rules.common import Rule
from toolchain.channels.rules.layout import follow_sizes
from toolchain.channels.space import Axis, Choice, Factor, Space
from toolchain.graph import Node

# What only moves values about; a Reshape whose result another one undoes behind these is a shuffle of channels.
_MOVES = {"Transpose", "Identity", "Cast"}


def reshape(node: Node, space: Space) -> None:
    """Find the finest dimensions that both shapes are made of, in runs that stand for the same elements."""
    x, output = node.inputs[0], node.outputs[0]
    before, after = space.shape(x), space.shape(output)
    if prod(before) == 0:
        return
    if node.op == "Reshape":
        follow_sizes(space, node.inputs[1], output, range(len(after)))
    for factors in _runs(x, before, output, after):
        sources, targets = {factor.source for factor in factors}, {factor.target for factor in factors}
        if len(sources) == len(targets) == len(factors) == 1:
            space.carry(factors[0].source, factors[0].target)
            space.silent(factors[0].target, [factors[0].source])
            continue
        silence: list[Axis | None] = []
        for axis in sources | targets:
            space.at(axis)
        for target in sorted(targets):
            space.silent(target, silence, every=False)
        space.choices.append(Choice(node, tuple(factors), _is_shuffle(node, space), silence))


def _runs(x: str, before: tuple[int, ...], output: str, after: tuple[int, ...]) -> list[list[Factor]]:
    """Return the common factors of two shapes, outermost first, in runs whose products agree.

    A run that has no common factors, as 4 x 6 and 3 x 8, is left out. So are dimensions of 1.
    """
    sources, targets = _strides(before), _strides(after)
    bounds = sorted({prod(before), *sources.values(), *targets.values()}, reverse=True)
    shared = {prod(before), 1} | (set(sources.values()) & set(targets.values()))
    runs: list[list[Factor]] = []
    run: list[Factor] | None = []
    for outer, inner in pairwise(bounds):
        if run is not None:
            source = _around(sources, before, outer, inner)
            target = _around(targets, after, outer, inner)
            if outer % inner or source is None or target is None:
                run = None
            else:
                size, (i, i_inner), (j, j_inner) = outer // inner, source, target
                run.append(Factor((x, i), (output, j), size, i_inner, j_inner))
        if inner in shared:
            if run:
                runs.append(run)
            run = []
    return runs


def _strides(shape: tuple[int, ...]) -> dict[int, int]:
    """Return how many elements one step of a dimension is, dimensions of 1 left out."""
    return {axis: prod(shape[axis + 1 :]) for axis, size in enumerate(shape) if size > 1}


def _around(strides: dict[int, int], shape: tuple[int, ...], outer: int, inner: int) -> tuple[int, int] | None:
    """Return the dimension that steps of ``inner`` up to ``outer`` lie in, and how many of its own steps one is."""
    for axis, stride in strides.items():
        if stride <= inner and outer <= stride * shape[axis]:
            return (axis, inner // stride) if inner % stride == 0 else None
    return None


def _is_shuffle(node: Node, space: Space) -> bool:
    """Return whether what this node makes is only moved until it is reshaped again."""
    return node.op == "Reshape" and _is_only_merged(space, node.outputs[0])


def _is_only_merged(space: Space, name: str) -> bool:
    uses = space.consumers.get(name, [])
    return bool(uses) and all(
        _merges(space, use) if use.op == "Reshape" else use.op in _MOVES and _is_only_merged(space, use.outputs[0])
        for use, _ in uses
    )


def _merges(space: Space, node: Node) -> bool:
    before, after = ([size for size in space.shape(name) if size > 1] for name in (node.inputs[0], node.outputs[0]))
    return len(after) < len(before)


RULES: dict[tuple[str, str], Rule] = {
    ("", "Flatten"): reshape,
    ("", "Reshape"): reshape,
    ("", "Squeeze"): reshape,
    ("", "Unsqueeze"): reshape,
}
