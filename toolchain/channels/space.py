"""Which positions of which dimensions must go together: a union-find over every index of every tensor of a model.

Every dimension of every tensor is a run of positions. Rules of operators link the positions that must be removed
together and block those that cannot be removed; what is connected in the end is a channel.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from toolchain.channels.trace import Trace
from toolchain.graph import Node

Axis = tuple[str, int]  # a tensor and one of its dimensions

# In place of the dimension that a number is the size of: a constant, or what the model computes otherwise.
CONSTANT, COMPUTED = -1, -2

# What the slices of a constant tensor do for a channel: compute it, take it as a summand of something else (and make
# that summand zero where they are zero), or neither, as a running mean.
Role = Literal["makes", "reads", "rides"]


@dataclass(frozen=True)
class Factor:
    """A way to carry channels through a Reshape: they run along ``size`` steps of both dimensions.

    Position p of the source stands for step ``p // inner % size``, and so does position q of the target.
    """

    source: Axis
    target: Axis
    size: int
    source_inner: int
    target_inner: int


@dataclass(frozen=True)
class Choice:
    """A Reshape that can carry channels along one of several factors, outermost first."""

    node: Node
    factors: tuple[Factor, ...]
    prefer_longest: bool
    silence: list[Axis | None]  # filled when the choice is made


@dataclass(frozen=True)
class Silence:
    """``target`` is zero at removed channels where every, or any, of ``sources`` is; a None among them never is."""

    target: Axis
    sources: Sequence[Axis | None]
    every: bool


@dataclass(frozen=True)
class Sum:
    """``node`` adds up products over these dimensions: removed channels must have contributed zero."""

    node: Node
    factors: tuple[Axis, ...]


@dataclass
class Space:
    """The positions of a traced model, and what rules say about them.

    Attributes:
        trace: shapes and constants.
        fixed: names of the values that are computed from constants alone, initializers included.
        axes: every dimension of every tensor, in the order in which nodes meet them.
        consumers: of every value, as ``Graph.consumers`` gives them.
        sizes: for whole-number tensors that hold sizes of dimensions: which of ``axes`` each entry is the size of, or
            ``CONSTANT`` or ``COMPUTED``.
        reasons: why positions are blocked, in the order in which that was found.
        roles: of dimensions of constants.
        choices: of factors, to be made when every rule has said what it knows.
        sums: of products over channels.
        divisors: what nodes divide by, which must not be zero.
        silences: in the order of the nodes.
    """

    trace: Trace
    fixed: set[str] = field(default_factory=set)
    sizes: dict[str, np.ndarray] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    roles: dict[Axis, set[Role]] = field(default_factory=dict)
    axes: list[Axis] = field(init=False)
    choices: list[Choice] = field(default_factory=list)
    sums: list[Sum] = field(default_factory=list)
    divisors: list[tuple[Node, Axis]] = field(default_factory=list)
    silences: list[Silence] = field(default_factory=list)
    consumers: Mapping[str, list[tuple[Node, int]]] = field(init=False)
    _starts: dict[Axis, int] = field(init=False)
    _numbers: dict[Axis, int] = field(init=False)
    _count: int = field(init=False)
    _links: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    _blocks: list[tuple[np.ndarray, int]] = field(default_factory=list)
    _claimed: set[Axis] = field(default_factory=set)
    _carried: list[tuple[Axis, Axis]] = field(default_factory=list)
    _roots: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        """Number the positions in the order in which nodes meet them."""
        graph, shapes = self.trace.graph, self.trace.shapes
        met = dict.fromkeys(name for node in graph.nodes for name in (*node.reads, *node.outputs) if name in shapes)
        met |= dict.fromkeys(name for name in shapes if name not in met)
        self.fixed |= set(graph.initializers)
        self.consumers = graph.consumers()
        self.axes = [(name, axis) for name in met for axis in range(len(shapes[name]))]
        lengths = [shapes[name][axis] for name, axis in self.axes]
        starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        self._starts = dict(zip(self.axes, starts[:-1].tolist(), strict=True))
        self._numbers = {axis: number for number, axis in enumerate(self.axes)}
        self._count = int(starts[-1])
        self._roots = np.arange(self._count)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the dimensions of a tensor."""
        return self.trace.shapes[name]

    def axis_number(self, axis: Axis) -> int:
        """Return the index in ``axes``."""
        return self._numbers[axis]

    def measured(self, name: str) -> np.ndarray:
        """Return of which dimensions a value's entries are the sizes, as ``sizes`` has it."""
        if name in self.sizes:
            return self.sizes[name]
        return np.full(self.shape(name), CONSTANT if name in self.fixed else COMPUTED, np.int64)

    def known(self, name: str) -> bool:
        """Return whether ``name`` is a tensor; ``""`` and sequences are not."""
        return name in self.trace.shapes

    def at(self, axis: Axis) -> np.ndarray:
        """Return the positions of a dimension, and note that the node's rule takes care of it."""
        self._claimed.add(axis)
        start = self._starts[axis]
        return np.arange(start, start + self.shape(axis[0])[axis[1]])

    def link(self, one: np.ndarray, other: np.ndarray) -> None:
        """Say that positions must be removed together; the arrays broadcast."""
        pair = np.broadcast_arrays(one, other)
        self._links.append((pair[0].ravel(), pair[1].ravel()))

    def carry(self, source: Axis, target: Axis, role: Role | None = None) -> None:
        """Link two dimensions of one length, position by position; the role is that of a constant ``source``."""
        self.link(self.at(source), self.at(target))
        self.give_role(source, target, role)

    def give_role(self, source: Axis, target: Axis, role: Role | None) -> None:
        """Note what ``source`` does for ``target``; a constant of constants does what is done with its result."""
        if target[0] in self.fixed:
            self._carried.append((source, target))
        elif role is not None:
            self.roles.setdefault(source, set()).add(role)

    def silent(self, target: Axis, sources: Sequence[Axis | None], every: bool = True) -> None:
        """Say when a result is exactly zero at channels whose slices of constants are all zero."""
        self.silences.append(Silence(target, sources, every))

    def sum_over(self, node: Node, *factors: Axis) -> None:
        """Say that ``node`` adds up products over these dimensions, which stay what they are without zero summands."""
        for axis in factors:
            self.at(axis)
            self.roles.setdefault(axis, set()).add("reads")
        self.sums.append(Sum(node, factors))

    def block(self, axes: Iterable[Axis], reason: str) -> None:
        """Say that nothing can be removed from these dimensions."""
        self.block_positions([self.at(axis) for axis in axes], reason)

    def block_positions(self, positions: Sequence[np.ndarray], reason: str) -> None:
        """Say that these positions cannot be removed."""
        if positions:
            self._blocks.append((np.concatenate(positions), len(self.reasons)))
            self.reasons.append(reason)

    def start_node(self, node: Node) -> None:
        """Note whether what the node makes is constant."""
        if node.inputs and not node.bodies and all(name in self.fixed for name in node.inputs if name):
            self.fixed.update(filter(None, node.outputs))

    def finish_node(self, node: Node, has_rule: bool) -> None:
        """Block what the node's rule did not take care of."""
        names = [name for name in dict.fromkeys((*node.reads, *node.outputs)) if self.known(name)]
        axes = [(name, axis) for name in names for axis in range(len(self.shape(name)))]
        left = [axis for axis in axes if axis not in self._claimed]
        operator = f"{node.domain}.{node.op}" if node.domain else node.op
        what = "needs the dimension as it is" if has_rule else "is an operator without a rule for channels"
        self.block(left, f"{operator} node {node.name!r} {what}")
        self._claimed.clear()

    def roots(self) -> np.ndarray:
        """Return, for every position, the lowest one that it is connected with."""
        if self._links:
            one = np.concatenate([pair[0] for pair in self._links])
            other = np.concatenate([pair[1] for pair in self._links])
            self._links.clear()
            self._roots = connect(self._roots, one, other)
        return self._roots

    def blocked(self) -> np.ndarray:
        """Return, for every position, the index of the reason why it cannot be removed; ``len(reasons)`` for none."""
        roots = self.roots()
        found = np.full(self._count, len(self.reasons))
        for positions, reason in self._blocks:
            np.minimum.at(found, roots[positions], reason)
        of_each: np.ndarray = found[roots]
        return of_each

    def spread_roles(self) -> None:
        """Give the constants behind rearranged and computed constants the roles of those."""
        for source, target in reversed(self._carried):
            if target in self.roles:
                self.roles.setdefault(source, set()).update(self.roles[target])


def connect(roots: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return ``roots`` after joining pairs of positions: lowest label hooking with pointer jumping."""
    while True:
        one, other = roots[one], roots[other]
        apart = one != other
        one, other = one[apart], other[apart]
        if not one.size:
            return roots
        low = np.minimum(one, other)
        roots = roots.copy()
        np.minimum.at(roots, np.maximum(one, other), low)
        while not np.array_equal(roots[roots], roots):
            roots = roots[roots]
