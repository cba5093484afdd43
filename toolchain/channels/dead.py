"""Channels that no result depends on, judged by the values of the weights: they can go, and nothing changes.

A channel meets the others only where channels are summed up. It is dead where each of these sums takes it times zero:
because the weights that read it are zero there, or because it is zero itself whatever the inputs are. A channel that
is some other constant whatever the inputs are (zero weights and a bias make one) can be added to the biases of those
that read it, which makes it dead.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from toolchain.channels.folding import Fold, find_fold
from toolchain.channels.groups import ChannelGroup, Channels
from toolchain.channels.space import Axis, Sum
from toolchain.channels.steady import Arrays, Readings, find_steady, may_be_steady

# How many channels of a group stay, at least, where so many are needed; grows with that.
Stay = Callable[[ChannelGroup, int], int]


@dataclass(frozen=True)
class Dead:
    """What can be removed.

    Attributes:
        channels: indices in ascending order by the name of their group; groups that lose nothing are not there.
        biases: new values of biases that took constants over, by initializer name.
    """

    channels: Mapping[str, np.ndarray]
    biases: Mapping[str, np.ndarray]


def find_dead(channels: Channels, arrays: Arrays, run: Callable[[list[str]], Arrays], stay: Stay) -> Dead:
    """Return the channels that can be removed so that the model computes what it did, and what that takes.

    What the removal of one makes of others is followed to the end.

    Args:
        channels: of the model.
        arrays: present values of its initializers.
        run: returns some values of the model, by name, for any inputs: those that may be constant.
        stay: how many channels of a group stay; one does in any case.
    """
    state = _State(channels, dict(arrays), Readings(run(may_be_steady(channels, arrays))))
    while state.advance(stay):
        pass
    biases = {name: state.arrays[name] for name in sorted(state.folded)}
    return Dead({name: np.sort(gone) for name, gone in state.gone.items() if gone.size}, biases)


def heard_channels(channels: Channels, arrays: Arrays) -> np.ndarray:
    """Return the numbers of the channels that results depend on, whatever other constants there are than zero."""
    steady = find_steady(channels, arrays, Readings({}))
    heard = [_heard(total, channels, steady) for total in channels.sums]
    return np.unique(np.concatenate([np.empty(0, np.int64), *heard]))


def _heard(total: Sum, channels: Channels, steady: Mapping[Axis, np.ndarray]) -> np.ndarray:
    """Return the channels that a sum adds up as something else than zero."""
    numbers = channels.numbers
    heard = np.unique(np.concatenate([numbers[axis] for axis in total.factors]))
    for axis in total.factors:
        silent = np.setdiff1d(numbers[axis], numbers[axis][steady[axis] != 0])
        heard = np.setdiff1d(heard, silent)
    return heard


class _State:
    """The values of the weights with dead channels at zero, and which those are."""

    def __init__(self, channels: Channels, arrays: dict[str, np.ndarray], values: Readings) -> None:
        self.channels = channels
        self.arrays = arrays
        self.values = values
        self.gone = {group.name: np.empty(0, np.int64) for group in channels.groups if not group.reason}
        self.folded: set[str] = set()

    def advance(self, stay: Stay) -> bool:
        """Find what is dead by now, and return whether that is more than it was."""
        steady = find_steady(self.channels, self.arrays, self.values)
        needed: list[np.ndarray] = [np.empty(0, np.int64)]
        folds: list[Fold] = []
        for total in self.channels.sums:
            heard = _heard(total, self.channels, steady)
            fold = find_fold(self.channels, total, self.arrays, steady, heard) if heard.size else None
            if fold is not None:
                folds.append(fold)
                heard = np.setdiff1d(heard, fold.channels)
            needed.append(heard)
        fresh = self._choose(np.unique(np.concatenate(needed)), stay)
        lost = np.concatenate([self.channels.members[name][indices] for name, indices in fresh.items()] or needed[:1])
        for fold in folds:
            if np.isin(fold.channels, lost).any():
                self.arrays[fold.bias] = fold.add(self.arrays, lost)
                self.folded.add(fold.bias)
        for name, indices in fresh.items():
            self._remove(name, indices)
        return bool(lost.size)

    def _choose(self, needed: np.ndarray, stay: Stay) -> dict[str, np.ndarray]:
        """Return, by group, which channels go beside those that are gone."""
        fresh = {}
        for group in self.channels.groups:
            if group.name not in self.gone:
                continue
            is_needed = np.isin(self.channels.members[group.name], needed)
            is_needed[self.gone[group.name]] = False
            count = group.count - max(1, stay(group, int(is_needed.sum()))) - self.gone[group.name].size
            can_go = np.setdiff1d(np.flatnonzero(~is_needed), self.gone[group.name])
            if count > 0:
                fresh[group.name] = can_go[:count]
        return fresh

    def _remove(self, name: str, indices: np.ndarray) -> None:
        """Set what the channels consist of to zero."""
        self.gone[name] = np.concatenate([self.gone[name], indices])
        group = next(group for group in self.channels.groups if group.name == name)
        for part in group.slices:
            if part.tensor in self.arrays:
                array = self.arrays[part.tensor] = self.arrays[part.tensor].copy()
                np.moveaxis(array, part.axis, 0)[part.positions[indices].ravel()] = 0
