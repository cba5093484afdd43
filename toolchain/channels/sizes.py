"""Follows the sizes of dimensions through the arithmetic of shapes: what depends on a size goes on depending on it."""

from collections.abc import Callable

import numpy as np

from toolchain.channels.rules.layout import slice_bounds
from toolchain.channels.space import Space
from toolchain.graph import Node

# Inputs that take sizes in such a way that their rules follow them, by operator.
_FOLLOWED = {"Reshape": 1, "Expand": 1, "ConstantOfShape": 0, "Resize": 3}


def follow_sizes(node: Node, space: Space) -> None:
    """Note of which dimensions the node's results hold the sizes; block those that it computes something of."""
    inside = (name for body in node.bodies for name in body.captured)
    names = [
        name
        for position, name in enumerate((*node.inputs, *inside))
        if name in space.sizes and (node.domain or _FOLLOWED.get(node.op) != position)
    ]
    moved = _MOVES[node.op](node, space) if names and node.op in _MOVES and not node.domain else None
    if moved is not None:
        space.sizes[node.outputs[0]] = moved
        return
    for name in names:
        axes = [space.axes[number] for number in space.sizes[name].ravel().tolist() if number >= 0]
        space.block(axes, f"{node.op} node {node.name!r} computes with its size")


def _same(node: Node, space: Space) -> np.ndarray | None:
    return space.measured(node.inputs[0]).reshape(space.shape(node.outputs[0]))


def _concat(node: Node, space: Space) -> np.ndarray | None:
    return np.concatenate([space.measured(name) for name in node.inputs], int(str(node.attributes["axis"])))


def _gather(node: Node, space: Space) -> np.ndarray | None:
    indices = space.trace.constant(node.inputs[1])
    if indices is None:
        return None
    return np.take(space.measured(node.inputs[0]), indices, int(str(node.attributes.get("axis", 0))))


def _slice(node: Node, space: Space) -> np.ndarray | None:
    bounds = slice_bounds(node, space.trace)
    if bounds is None or set(bounds) != {0} or not bounds[0].step:
        return None
    return space.measured(node.inputs[0])[bounds[0]]


_MOVES: dict[str, Callable[[Node, Space], np.ndarray | None]] = {
    "Cast": _same,
    "Concat": _concat,
    "Gather": _gather,
    "Identity": _same,
    "Reshape": _same,
    "Slice": _slice,
    "Squeeze": _same,
    "Unsqueeze": _same,
}
