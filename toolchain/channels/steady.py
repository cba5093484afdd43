"""What a model computes as the same number for every input: channels of zeros, and of other constants."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from toolchain.channels.groups import Channels
from toolchain.channels.rules.common import integer, is_given
from toolchain.channels.rules.elementwise import CHANGING_ZERO, KEEPING_ZERO
from toolchain.channels.space import Axis, Silence
from toolchain.graph import Node

Arrays = Mapping[str, np.ndarray]

# Elementwise, of operands at one place; what keeps every channel to itself, and the same for all of its elements;
# what only moves values about.
_ELEMENTWISE = {*KEEPING_ZERO, *CHANGING_ZERO, "Add", "Clip", "Div", "Max", "Min", "Mul", "PRelu", "Pow", "Sub", "Sum"}
_PER_CHANNEL = {"BatchNormalization", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"}
_MOVING = {"Concat", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}

# Of the largest number among them: how far elements of a constant may lie apart, as sums are rounded here and there.
_ROUNDING = 1e-5
# Elements of a constant tensor in which numbers other than zero are looked for; a larger one is a matrix of weights.
_LARGEST_VECTOR = 2**16


class Readings:
    """The constants that one run of a model shows, each looked for once.

    Args:
        values: by name.
    """

    def __init__(self, values: Arrays) -> None:
        self._values = values
        self._found: dict[Axis, np.ndarray] = {}

    def read(self, name: str, axis: int, size: int) -> np.ndarray:
        """Return the number at every position of a dimension, NaN where there are several, or no value is known."""
        if (name, axis) not in self._found:
            known = self._values.get(name)
            self._found[name, axis] = np.full(size, np.nan) if known is None else _constants(known, axis)
        return self._found[name, axis]


def may_be_steady(channels: Channels, arrays: Arrays) -> list[str]:
    """Return the computed values that may have a channel which is constant, by the structure of the model."""
    found = find_steady(channels, arrays, None)
    return sorted(
        {name for (name, _), constants in found.items() if name not in arrays and np.isfinite(constants).any()}
    )


def find_steady(channels: Channels, arrays: Arrays, values: Readings | None) -> dict[Axis, np.ndarray]:
    """Return, for every dimension of every tensor, the number that each position holds for all inputs; NaN for none.

    Args:
        channels: of the model.
        arrays: present values of its initializers.
        values: of one run, those of ``may_be_steady``; None takes every constant for zero, which finds those.
    """
    return _Steady(channels, arrays, values).find()


def _over_others(flags: np.ndarray, axis: int) -> np.ndarray:
    """Return whether any flag is set, per position along ``axis``."""
    return np.asarray(np.moveaxis(flags, axis, 0).reshape(flags.shape[axis], -1).any(axis=1))


def _constants(value: np.ndarray, axis: int) -> np.ndarray:
    """Return the number that all elements at a position are, NaN where they differ: float64."""
    if not value.size:
        return np.full(value.shape[axis], np.nan)
    rows = np.moveaxis(value, axis, 0).reshape(value.shape[axis], -1).astype(np.float64)
    low, high = rows.min(axis=1), rows.max(axis=1)
    return np.where(high - low <= _ROUNDING * np.abs(rows).max(axis=1), rows[:, 0], np.nan)


class _Steady:
    """Follows constants through the nodes of a model."""

    def __init__(self, channels: Channels, arrays: Arrays, values: Readings | None) -> None:
        self.numbers = channels.numbers
        self.graph = channels.trace.graph
        self.shapes = channels.trace.shapes
        self.arrays = arrays
        self.values = values
        self.marks = np.zeros(1 + max((int(own.max()) for own in self.numbers.values() if own.size), default=0), bool)
        self.found = {axis: np.full(own.shape, np.nan) for axis, own in self.numbers.items()}
        self.silences: dict[str, list[Silence]] = {}
        for silence in channels.silences:
            self.silences.setdefault(silence.target[0], []).append(silence)

    def find(self) -> dict[Axis, np.ndarray]:
        """Return the constants of every position of every dimension."""
        for name, axis in self.numbers:
            if name in self.arrays:
                array = self.arrays[name]
                self.found[name, axis] = (
                    _constants(array, axis)
                    if array.size <= _LARGEST_VECTOR
                    else np.where(_over_others(array != 0, axis), np.nan, 0.0)
                )
        for node in self.graph.nodes:
            if not node.domain and all(name in self.shapes for name in (*node.inputs, *node.outputs) if name):
                for target, steady in self._of(node):
                    if steady.any():
                        self.found[target][steady] = self._read(*target)[steady]
            for silence in (item for name in node.outputs for item in self.silences.get(name, ())):
                self.found[silence.target][self._silent(silence)] = 0
        return self.found

    def _read(self, name: str, axis: int) -> np.ndarray:
        """Return the constants that the run found; one that depends on what pads it is none."""
        if self.values is None:
            return np.zeros(self.shapes[name][axis])
        return self.values.read(name, axis, self.shapes[name][axis])

    def _silent(self, silence: Silence) -> np.ndarray:
        """Return where a result is zero because what it is made of is."""
        own = self.numbers[silence.target]
        result = np.full(own.shape, silence.every)
        for source in silence.sources:
            zero = np.zeros(own.shape, bool)
            if source is not None:
                numbers = self.numbers[source]
                zero = ~self._among(own, numbers[self.found[source] != 0])
                zero &= silence.every | self._among(own, numbers)
            result = result & zero if silence.every else result | zero
        return result

    def _among(self, own: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Return which numbers are among others, as ``np.isin`` does, without sorting."""
        self.marks[others] = True
        found: np.ndarray = self.marks[own]
        self.marks[others] = False
        return found

    def _of(self, node: Node) -> Iterator[tuple[Axis, np.ndarray]]:
        """Yield, for dimensions of the node's result, which positions are constant."""
        output = node.outputs[0] if node.outputs else ""
        if not output or node.bodies:
            return
        if node.op in ("Conv", "Gemm"):
            yield (output, 1), self._made(node, output)
        elif node.op in _PER_CHANNEL and not any(node.outputs[1:]):
            yield (output, 1), self._same(node.inputs[:1], (output, 1))
        elif node.op in _MOVING:
            # Shapes and axes are inputs too: what is moved about are those before them.
            moved = node.inputs if node.op == "Concat" else node.inputs[:1]
            for axis in range(len(self.shapes[output])):
                yield (output, axis), self._same(moved, (output, axis))
        elif node.op in _ELEMENTWISE:
            for axis in range(len(self.shapes[output])):
                operands = [self._operand(name, output, axis) for name in node.inputs if name]
                yield (output, axis), np.logical_and.reduce(operands)

    def _made(self, node: Node, output: str) -> np.ndarray:
        """Weights of zero leave the bias, or nothing; so do channels of zero that a group has to itself."""
        along = (node.inputs[1], 0 if node.op == "Conv" or integer(node, "transB", 0) else 1)
        steady = self.found[along] == 0
        if node.op == "Conv" and integer(node, "group", 1) > 1:
            own, taken = self.numbers[output, 1], self.numbers[node.inputs[0], 1]
            zero = self.found[node.inputs[0], 1] == 0
            steady |= self._among(own, taken[zero]) & ~self._among(own, taken[~zero])
        if node.op == "Gemm" and is_given(node, 2):
            steady &= self._operand(node.inputs[2], output, 1)
        return np.asarray(steady)

    def _same(self, sources: Sequence[str], target: Axis) -> np.ndarray:
        """Return the positions that are made of constant ones alone."""
        own = self.numbers[target]
        heard, known = np.zeros(own.shape, bool), np.zeros(own.shape, bool)
        for source in ((name, axis) for name in sources if name for axis in range(len(self.shapes[name]))):
            numbers, steady = self.numbers[source], np.isfinite(self.found[source])
            heard |= self._among(own, numbers[~steady])
            known |= self._among(own, numbers[steady])
        return np.asarray(known & ~heard)

    def _operand(self, name: str, output: str, axis: int) -> np.ndarray:
        """Return where a broadcast operand is constant, by the positions of the output."""
        size = self.shapes[output][axis]
        own = axis - (len(self.shapes[output]) - len(self.shapes[name]))
        if own >= 0 and self.shapes[name][own] == size:
            return np.asarray(np.isfinite(self.found[name, own]))
        array = self.arrays.get(name)
        return np.full(size, array is not None and array.size > 0 and bool((array == array.flat[0]).all()))
