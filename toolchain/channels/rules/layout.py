"""Operators that rearrange, cut and enlarge, and leave values as they are."""

import numpy as np

from toolchain.channels.rules.common import Rule, carry_all, integer, integers, is_given, is_zero
from toolchain.channels.space import COMPUTED, Axis, Space
from toolchain.channels.trace import Trace
from toolchain.graph import Node


def shape(node: Node, space: Space) -> None:
    """Asking how large a tensor is forces nothing; what becomes of the answer is followed."""
    x = node.inputs[0]
    rank = len(space.shape(x))
    axes = [(x, axis) for axis in range(rank)]
    for axis in axes:
        space.at(axis)
    part = slice(integer(node, "start", 0), integer(node, "end", rank))
    space.sizes[node.outputs[0]] = np.array([space.axis_number(axis) for axis in axes], np.int64)[part]


def transpose(node: Node, space: Space) -> None:
    """Dimensions change places."""
    x, output = node.inputs[0], node.outputs[0]
    rank = len(space.shape(x))
    order = node.attributes.get("perm")
    for axis, source in enumerate(order if isinstance(order, list) else range(rank)[::-1]):
        _move(space, (x, int(str(source))), (output, axis))


def _move(space: Space, source: Axis, target: Axis) -> None:
    space.carry(source, target)
    space.silent(target, [source])


def concat(node: Node, space: Space) -> None:
    """One input after the other along ``axis``."""
    output, parts = node.outputs[0], [name for name in node.inputs if 0 not in space.shape(name)]
    rank = len(space.shape(output))
    along = integer(node, "axis", 1) % rank
    for name in parts:
        for axis in set(range(rank)) - {along}:
            space.carry((name, axis), (output, axis))
    start, positions = 0, space.at((output, along))
    for name in parts:
        source = space.at((name, along))
        space.link(source, positions[start : start + source.size])
        space.give_role((name, along), (output, along), None)
        start += source.size
    for axis in range(rank):
        space.silent((output, axis), [(name, axis) for name in parts])


def split(node: Node, space: Space) -> None:
    """One output after the other along ``axis``."""
    x = node.inputs[0]
    if not all(node.outputs):
        return  # how much of it nobody asked for is not known
    rank = len(space.shape(x))
    along = integer(node, "axis", 0) % rank
    start, positions = 0, space.at((x, along))
    for name in node.outputs:
        carry_all(space, x, name, [axis for axis in range(rank) if axis != along])
        target = space.at((name, along))
        space.link(positions[start : start + target.size], target)
        space.give_role((x, along), (name, along), None)
        space.silent((name, along), [(x, along)])
        start += target.size


def slice_bounds(node: Node, trace: Trace) -> dict[int, slice] | None:
    """Return what a Slice takes of every dimension that it names; None where that is computed from inputs."""
    rank = len(trace.shapes[node.inputs[0]])
    starts, ends = integers(trace, node, 1, "starts"), integers(trace, node, 2, "ends")
    axes, steps = integers(trace, node, 3, "axes"), integers(trace, node, 4, "steps")
    if axes is None and is_given(node, 3):
        return None
    axes = list(range(len(axes or starts or ends or []))) if axes is None else axes
    if starts is None or ends is None or (steps is None and is_given(node, 4)):
        return dict.fromkeys((axis % rank for axis in axes), slice(None, None, 0)) if axes else None
    bounds = zip(axes, starts, ends, steps or [1] * len(axes), strict=True)
    return {axis % rank: slice(start, end, step) for axis, start, end, step in bounds}


def cut(node: Node, space: Space) -> None:
    """A part of some dimensions; positions that are left out are free to go."""
    x, output = node.inputs[0], node.outputs[0]
    bounds = slice_bounds(node, space.trace)
    if bounds is None:
        return
    carry_all(space, x, output, [axis for axis in range(len(space.shape(x))) if axis not in bounds])
    for axis, bound in bounds.items():
        if bound.step == 1:
            taken = space.at((x, axis))[bound]
            space.link(taken, space.at((output, axis)))
            space.give_role((x, axis), (output, axis), None)
            space.silent((output, axis), [(x, axis)])


def gather(node: Node, space: Space) -> None:
    """Positions of one dimension, chosen by indices; constant indices in a row can be chosen anew."""
    x, indices, output = node.inputs[0], node.inputs[1], node.outputs[0]
    rank, inserted = len(space.shape(x)), len(space.shape(indices))
    along = integer(node, "axis", 0) % rank
    for axis in set(range(rank)) - {along}:
        target = (output, axis if axis < along else axis + inserted - 1)
        _move(space, (x, axis), target)
        space.give_role((x, axis), target, "makes")  # as an embedding does
    chosen = space.trace.graph.initializers.get(indices)
    if chosen is not None and inserted == 1:
        space.carry((indices, 0), (output, along))
        space.link(space.at((x, along))[chosen], space.at((output, along)))
        space.give_role((x, along), (output, along), None)
        space.silent((output, along), [(x, along)])
    else:
        for axis in range(inserted):
            space.carry((indices, axis), (output, along + axis))


def expand(node: Node, space: Space) -> None:
    """Repeats dimensions of 1 as often as an input says; the copies are as many as what they are repeated for."""
    x, output = node.inputs[0], node.outputs[0]
    rank, own = len(space.shape(output)), len(space.shape(x))
    for axis in range(rank):
        source = axis - (rank - own)
        if source >= 0 and space.shape(x)[source] == space.shape(output)[axis]:
            _move(space, (x, source), (output, axis))
        space.at((output, axis))
        space.silent((output, axis), [None] if source < 0 else [(x, source)])
    entries = space.shape(node.inputs[1])[0]
    follow_sizes(space, node.inputs[1], output, range(rank - entries, rank))


def fill(node: Node, space: Space) -> None:
    """ConstantOfShape: as many copies as an input says."""
    output, value = node.outputs[0], node.attributes.get("value")
    rank = len(space.shape(output))
    for axis in range(rank):
        space.at((output, axis))
        space.silent(
            (output, axis), [] if not isinstance(value, np.ndarray) or not value.any() else [None]
        )  # of nothing: all are zero
    follow_sizes(space, node.inputs[0], output, range(rank))


def follow_sizes(space: Space, entries: str, output: str, axes: range | list[int]) -> None:
    """Link dimensions with those whose sizes an input gives for them, so that the sizes go on to be right."""
    for axis, measured in zip(axes, space.measured(entries).tolist(), strict=True):
        if measured == COMPUTED:
            space.block([(output, axis)], f"its size in {output!r} is computed when the model runs")
        if measured < 0:
            continue
        source = space.axes[measured]
        if space.shape(source[0])[source[1]] == space.shape(output)[axis]:
            space.link(space.at(source), space.at((output, axis)))
        else:
            space.block([source, (output, axis)], f"its size is used for another one, of {output!r}")


def tile(node: Node, space: Space) -> None:
    """Dimensions that are not repeated."""
    repeats = integers(space.trace, node, 1, "repeats")
    if repeats is not None:
        carry_all(space, node.inputs[0], node.outputs[0], [axis for axis, times in enumerate(repeats) if times == 1])


def pad(node: Node, space: Space) -> None:
    """Positions at the ends of dimensions; those that are constant are free to go."""
    x, output = node.inputs[0], node.outputs[0]
    before = pad_amounts(node, space.trace)
    if before is None:
        return
    constant = node.attributes.get("mode", "constant") == "constant"
    value = node.attributes.get("value", 0.0)
    zero = not constant or (is_zero(space, node.inputs[2]) if is_given(node, 2) else not value)
    for axis, (first, last) in enumerate(before):
        size = space.shape(x)[axis]
        if first == last == 0 or (constant and first >= 0 and last >= 0):
            space.link(space.at((x, axis)), space.at((output, axis))[first : first + size])
            space.give_role((x, axis), (output, axis), None)
            space.silent((output, axis), [(x, axis)] if zero else [None])


def pad_amounts(node: Node, trace: Trace) -> list[tuple[int, int]] | None:
    """Return how much a Pad adds before and after every dimension; None where that is computed from inputs."""
    rank = len(trace.shapes[node.inputs[0]])
    amounts, axes = integers(trace, node, 1, "pads"), integers(trace, node, 3, "axes")
    if amounts is None or (axes is None and is_given(node, 3)):
        return None
    named = [axis % rank for axis in axes] if axes is not None else list(range(rank))
    found = [(0, 0)] * rank
    for place, axis in enumerate(named):
        found[axis] = (amounts[place], amounts[place + len(named)])
    return found


def resize(node: Node, space: Space) -> None:
    """Dimensions that keep their size stay as they are; which these are must not depend on the inputs."""
    x, output = node.inputs[0], node.outputs[0]
    if node.attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        return
    if node.attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        return
    rank = len(space.shape(x))
    axes = resized_axes(node, rank)
    position = 1 if node.op == "Upsample" or node.since < 11 else 2
    scales = space.trace.constant(node.inputs[position]) if is_given(node, position) else _listed(node, "scales")
    if scales is None or not scales.size:
        same = [axis for axis in axes if space.shape(x)[axis] == space.shape(output)[axis] and is_given(node, 3)]
    else:
        same = [axis for axis, scale in zip(axes, scales.ravel(), strict=True) if scale == 1]
    carry_all(space, x, output, [*same, *(axis for axis in range(rank) if axis not in axes)])
    if is_given(node, 3):
        follow_sizes(space, node.inputs[3], output, axes)


def _listed(node: Node, name: str) -> np.ndarray | None:
    value = node.attributes.get(name)
    return np.array(value, np.float32) if isinstance(value, list) else None


def resized_axes(node: Node, rank: int) -> list[int]:
    """Return which dimensions the sizes or scales of a Resize are for."""
    axes = node.attributes.get("axes")
    return [int(str(axis)) % rank for axis in axes] if isinstance(axes, list) else list(range(rank))


def depth_to_space(node: Node, space: Space) -> None:
    """Blocks of pixels out of channels."""
    x, output, block = node.inputs[0], node.outputs[0], integer(node, "blocksize", 1)
    carry_all(space, x, output, [0])
    made = space.at((output, 1))
    pattern = np.repeat(made, block**2) if node.attributes.get("mode") == "CRD" else np.tile(made, block**2)
    space.link(space.at((x, 1)), pattern)
    space.silent((output, 1), [(x, 1)])


def space_to_depth(node: Node, space: Space) -> None:
    """Channels out of blocks of pixels."""
    x, output, block = node.inputs[0], node.outputs[0], integer(node, "blocksize", 1)
    carry_all(space, x, output, [0])
    space.link(space.at((output, 1)), np.tile(space.at((x, 1)), block**2))
    space.silent((output, 1), [(x, 1)])


RULES: dict[tuple[str, str], Rule] = {
    ("", "Concat"): concat,
    ("", "ConstantOfShape"): fill,
    ("", "DepthToSpace"): depth_to_space,
    ("", "Expand"): expand,
    ("", "Gather"): gather,
    ("", "Pad"): pad,
    ("", "Resize"): resize,
    ("", "Shape"): shape,
    ("", "Slice"): cut,
    ("", "SpaceToDepth"): space_to_depth,
    ("", "Split"): split,
    ("", "Tile"): tile,
    ("", "Transpose"): transpose,
    ("", "Upsample"): resize,
}
