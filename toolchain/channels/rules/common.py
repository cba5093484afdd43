"""What rules of several families need."""

from collections.abc import Callable, Sequence

import numpy as np

from toolchain.channels.space import Axis, Space
from toolchain.channels.trace import Trace
from toolchain.graph import Node

# Links and blocks, in a Space, what one node forces to go together or to stay; what it leaves out is blocked.
Rule = Callable[[Node, Space], None]


def behind(space: Space, name: str, output: str, axis: int) -> Axis | None:
    """Return the dimension of a broadcast operand that runs along ``axis`` of the output; None where it repeats."""
    own = axis - (len(space.shape(output)) - len(space.shape(name)))
    if own < 0 or space.shape(name)[own] != space.shape(output)[axis]:
        return None
    return (name, own)


def is_zero(space: Space, name: str) -> bool:
    """Return whether a value is a small constant of zeros alone."""
    array = space.trace.constant(name)
    return array is not None and not np.any(array)


def integers(trace: Trace, node: Node, position: int, attribute: str) -> list[int] | None:
    """Return what a node is given as a list by attribute or, in later versions, by a constant input.

    None where it is computed from the model's inputs or where it is left out.
    """
    given = node.attributes.get(attribute)
    if isinstance(given, list):
        return [int(item) for item in given if isinstance(item, int)]
    if position >= len(node.inputs) or not node.inputs[position]:
        return None
    array = trace.constant(node.inputs[position])
    return None if array is None else [int(item) for item in array.reshape(-1)]


def is_given(node: Node, position: int) -> bool:
    """Return whether an optional input is there."""
    return position < len(node.inputs) and bool(node.inputs[position])


def integer(node: Node, name: str, default: int) -> int:
    """Return an attribute that is a whole number."""
    value = node.attributes.get(name, default)
    return value if isinstance(value, int) else default


def carry_all(space: Space, source: str, target: str, axes: Sequence[int]) -> None:
    """Link dimensions that two tensors have in common; the target is silent along them where the source is."""
    for axis in axes:
        space.carry((source, axis), (target, axis))
        space.silent((target, axis), [(source, axis)])
