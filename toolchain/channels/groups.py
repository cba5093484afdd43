"""Finds which slices of which constant tensors must be removed together, from the graph alone.

A *channel* is everything that must go when one of its parts goes: a filter and its bias, the entries of the
normalisation behind it, the slices of all weights that read it, and, where feature maps are added, the same of every
other map. Removing a channel means that what it contributed to everything else was zero: the remaining model computes
what the original computes with all slices of the channel at zero, up to the order in which sums are rounded.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from toolchain.channels.rules import RULES
from toolchain.channels.sizes import follow_sizes
from toolchain.channels.space import Axis, Choice, Factor, Role, Silence, Space, Sum, connect
from toolchain.channels.trace import Trace


@dataclass(frozen=True, eq=False)
class Slices:
    """The parts of one constant tensor that belong to the channels of a group.

    Attributes:
        tensor: initializer name.
        axis: the dimension that is cut.
        positions: int64 ``[channels, positions per channel]`` along ``axis``.
        role: ``"makes"`` where the slice computes the channel, ``"reads"`` where it is multiplied by the channel and
            summed up, ``"rides"`` where neither, as a running mean; what both makes and reads is said to make.
    """

    tensor: str
    axis: int
    positions: np.ndarray
    role: Role


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Channels that consist of the same slices, but for the positions, so that they can be compared.

    Attributes:
        name: unique in the model: of the first tensor that makes the channels, with a number where it makes channels of
            several groups, or of one that reads them with ``(read)`` behind it where none makes them.
        slices: of every constant tensor that is cut; none twice along the same dimension.
        reason: why none of the channels can be removed; empty where they can.
        leak: what makes something else than zero out of a channel whose ``"makes"`` slices are all zero; empty where
            such a channel is zero wherever it is read, so that its ``"reads"`` slices do not matter.
    """

    name: str
    slices: tuple[Slices, ...]
    reason: str
    leak: str

    @property
    def count(self) -> int:
        """Number of channels."""
        return len(self.slices[0].positions)


@dataclass(frozen=True, eq=False)
class Channels:
    """The channels of a model.

    Attributes:
        groups: in the order in which the model uses them.
        members: by group name, the number of every channel in ``numbers``.
        numbers: for every dimension of every tensor of the model, which channel each position belongs to.
        trace: the run that showed the dimensions.
        sizes: for whole-number values that hold sizes of dimensions, which entries do so.
        silences: what is zero where what else is, in the order of the nodes.
        sums: where channels are added up; nowhere else do they meet.
    """

    groups: tuple[ChannelGroup, ...]
    members: Mapping[str, np.ndarray]
    numbers: Mapping[Axis, np.ndarray]
    trace: Trace
    sizes: Mapping[str, np.ndarray]
    silences: tuple[Silence, ...]
    sums: tuple[Sum, ...]


def find_channels(trace: Trace) -> Channels:
    """Find the channels of the model that was traced, those that cannot be removed included."""
    space = Space(trace)
    _apply_rules(space)
    for choice in space.choices:
        _choose(choice, space)
    space.spread_roles()
    leaks = _check_sums(space)
    return _collect(space, leaks)


def channel_groups(trace: Trace) -> tuple[ChannelGroup, ...]:
    """Return the groups of ``find_channels``."""
    return find_channels(trace).groups


def _apply_rules(space: Space) -> None:
    graph = space.trace.graph
    for word, values in (("input", graph.inputs), ("output", graph.outputs)):
        for name in (value.name for value in values if space.known(value.name)):
            space.block([(name, axis) for axis in range(len(space.shape(name)))], f"it is of the graph {word} {name!r}")
    for node in graph.nodes:
        space.start_node(node)
        follow_sizes(node, space)
        rule = RULES.get((node.domain, node.op))
        known = all(space.known(name) for name in (*node.inputs, *node.outputs) if name)
        if rule is not None and known:
            rule(node, space)
        space.finish_node(node, has_rule=rule is not None and known)


def _choose(choice: Choice, space: Space) -> None:
    """Take one factor: of those that fit, the outermost, so that attention loses heads.

    In a shuffle, which has no outermost factor, the longest: it ties the fewest channels together.
    """
    fitting = [factor for factor in choice.factors if _fits(factor, space)]
    longest = choice.prefer_longest or not fitting
    taken = max(fitting or choice.factors, key=lambda factor: factor.size) if longest else fitting[0]
    first = space.at(taken.source)[:: taken.source_inner][: taken.size]
    for axis, inner in ((taken.source, taken.source_inner), (taken.target, taken.target_inner)):
        positions = space.at(axis)
        space.link(positions, first[np.arange(positions.size) // inner % taken.size])
    space.give_role(taken.source, taken.target, None)
    choice.silence.append(taken.source)
    others = {axis for factor in choice.factors for axis in _ends(factor)} - set(_ends(taken))
    space.block(sorted(others), f"{choice.node.op} node {choice.node.name!r} keeps channels along another dimension")


def _fits(factor: Factor, space: Space) -> bool:
    """Return whether something can be removed along a factor, and no two of its steps are tied together already."""
    roots, blocked = space.roots(), space.blocked() < len(space.reasons)
    for axis, inner in ((factor.source, factor.source_inner), (factor.target, factor.target_inner)):
        positions = space.at(axis)
        steps = np.arange(positions.size) // inner % factor.size
        _, known = np.unique(roots[positions], return_inverse=True)
        tied = connect(np.arange(factor.size + positions.size), steps, factor.size + known)
        if blocked[positions].all() or np.unique(tied[: factor.size]).size < factor.size:
            return False
    return True


def _ends(factor: Factor) -> tuple[Axis, Axis]:
    return factor.source, factor.target


def _check_sums(space: Space) -> list[tuple[np.ndarray, str]]:
    """Block what is summed up and not zero where it is removed; return where only the weights see to that, and why."""
    silent = {axis: True for axis in space.axes if axis[0] in space.trace.graph.initializers}
    for silence in space.silences:
        known = [source is not None and silent.get(source, False) for source in silence.sources]
        silent[silence.target] = all(known) if silence.every else any(known)
    for node, axis in space.divisors:
        if silent.get(axis, False):
            space.block([axis], f"{node.op} node {node.name!r} divides by it, and it is zero where weights are")
    leaks = []
    for total in space.sums:
        node, loud = total.node, [axis for axis in total.factors if not silent.get(axis, False)]
        if len(loud) == len(total.factors):
            space.block(loud, f"{node.op} node {node.name!r} sums it up, and it is not zero where weights are")
        computed = [axis for axis in total.factors if axis[0] not in space.fixed]
        if computed and set(computed) <= set(loud):
            leaks.append((space.at(computed[0]), f"{computed[0][0]!r} is not zero where it is made of zeros"))
    return leaks


def _collect(space: Space, leaks: list[tuple[np.ndarray, str]]) -> Channels:
    roots, blocked = space.roots(), space.blocked()
    leak_of: dict[int, str] = {}
    for positions, why in leaks:
        for root in np.unique(roots[positions]).tolist():
            leak_of.setdefault(root, why)
    weighty = [axis for axis, roles in space.roles.items() if roles != {"rides"} and _is_weight(space, axis[0])]
    wanted = np.zeros(roots.size, bool)
    for axis in weighty:
        wanted[roots[space.at(axis)]] = True
    alike: dict[tuple[tuple[tuple[int, int], ...], str, str], list[int]] = {}
    for root, signature in _signatures(space, roots, wanted).items():
        reason = space.reasons[blocked[root]] if blocked[root] < len(space.reasons) else ""
        alike.setdefault((signature, reason, leak_of.get(root, "")), []).append(root)
    groups: list[ChannelGroup] = []
    members: dict[str, np.ndarray] = {}
    for (parts, reason, leak), found in alike.items():
        slices = _slices(space, roots, np.array(found), parts)
        makers = [item.tensor for item in slices if item.role == "makes"]
        name = _unused(makers[0] if makers else f"{slices[0].tensor} (read)", members)
        why = reason if reason or makers else "no weights make it"
        groups.append(ChannelGroup(name, slices, why, leak))
        members[name] = np.array(found)
    numbers = {axis: roots[space.at(axis)] for axis in space.axes}
    measured = {name: entries >= 0 for name, entries in space.sizes.items()}
    return Channels(tuple(groups), members, numbers, space.trace, measured, tuple(space.silences), tuple(space.sums))


def _is_initializer(space: Space, axis: Axis) -> bool:
    return axis[0] in space.trace.graph.initializers


def _is_weight(space: Space, name: str) -> bool:
    """Return whether a constant may hold weights, quantized ones included; longer integers are shapes and indices."""
    known = space.trace.graph.initializers
    return name in known and (known.dtype(name).kind not in "iub" or known.dtype(name).name in ("int8", "uint8"))


def _signatures(space: Space, roots: np.ndarray, wanted: np.ndarray) -> dict[int, tuple[tuple[int, int], ...]]:
    """Return, for every wanted channel by its first position, on which dimensions it has how many positions."""
    lengths = [space.shape(name)[axis] for name, axis in space.axes]
    numbers = np.repeat(np.arange(len(lengths)), lengths)
    kept = wanted[roots]
    pairs, counts = np.unique(np.stack([roots[kept], numbers[kept]]), axis=1, return_counts=True)
    found: dict[int, list[tuple[int, int]]] = {}
    for root, number, count in zip(*pairs.tolist(), counts.tolist(), strict=True):
        found.setdefault(root, []).append((number, count))
    return {root: tuple(parts) for root, parts in found.items()}


def _slices(space: Space, roots: np.ndarray, found: np.ndarray, parts: Iterable[tuple[int, int]]) -> tuple[Slices, ...]:
    """Return what the channels ``found`` have of constant tensors."""
    place = {root: index for index, root in enumerate(found.tolist())}
    slices = []
    for number, count in parts:
        tensor, axis = space.axes[number]
        if not _is_initializer(space, (tensor, axis)):
            continue
        own = roots[space.at((tensor, axis))]
        positions = np.flatnonzero(np.isin(own, found))
        order = np.argsort([place[root] for root in own[positions].tolist()], kind="stable")
        slices.append(Slices(tensor, axis, positions[order].reshape(len(found), count), _role(space, (tensor, axis))))
    return tuple(slices)


def _role(space: Space, axis: Axis) -> Role:
    roles = space.roles.get(axis, set())
    return "makes" if "makes" in roles else "reads" if "reads" in roles else "rides"


def _unused(name: str, taken: Mapping[str, object]) -> str:
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}:{number}"
    return found
