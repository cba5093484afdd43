"""Which channels of a model pruning may take, and of which tensors that cuts what."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from calibration.example import example_of
from passes.constraints import Cut, channels_per_step
from toolchain.channels import ChannelGroup, Channels, find_channels, trace
from toolchain.channels.dead import heard_channels
from toolchain.errors import RecipeError, ToolchainError
from toolchain.graph import Graph, find_weights
from toolchain.module import OnnxModule


@dataclass(frozen=True, eq=False)
class Prunable:
    """The channels that pruning may take.

    Attributes:
        cuts: by tensor name, of those that lose slices with channels.
        reasons: by tensor name, why others keep all of their channels.
    """

    cuts: Mapping[str, tuple[Cut, ...]]
    reasons: Mapping[str, str]

    def least(self, name: str, shape: tuple[int, ...], multiple: int) -> int:
        """Return the fewest weights of a tensor that stay where groups keep ``multiple`` positions each."""
        sizes = list(shape)
        for cut in self.cuts[name]:
            count, each = cut.positions.shape
            sizes[cut.axis] -= max(0, count - channels_per_step(self._by_group[cut.group], multiple)) * each
        return int(np.prod(sizes))

    @cached_property
    def _by_group(self) -> dict[int, list[Cut]]:
        found: dict[int, list[Cut]] = {}
        for cut in (cut for cuts in self.cuts.values() for cut in cuts):
            found.setdefault(cut.group, []).append(cut)
        return found


def find_prunable(graph: Graph, names: AbstractSet[str]) -> Prunable:
    """Return which channels can go if the tensors ``names`` are pruned by channel and no others.

    Raises:
        RecipeError: the model cannot be run on inputs as its signature has them, which shows its channels.
    """
    try:
        channels = find_channels(trace(OnnxModule(graph).eval(), example_of(graph)))
    except ToolchainError as error:
        raise RecipeError(
            f"the channels of the model cannot be found: {error}", hint="name another structure"
        ) from error
    return prunable_of(channels, names)


def prunable_of(channels: Channels, names: AbstractSet[str]) -> Prunable:
    """Return which of ``channels`` can go, as ``find_prunable`` does."""
    graph = channels.trace.graph
    weights = {weight.name for weight in find_weights(graph) if not weight.reason}
    reasons: dict[str, str] = {}
    open_groups = []
    for group in channels.groups:
        reason = group.reason or _held(group, weights - names)
        if reason:
            _note(reasons, group, reason)
        elif not any(part.tensor in names for part in group.slices):
            continue
        else:
            open_groups.append(group)
    heard = heard_channels(channels, _silenced(graph, open_groups, names))
    cuts: dict[str, list[Cut]] = {}
    for number, group in enumerate(open_groups):
        if np.isin(channels.members[group.name], heard).any():
            _note(reasons, group, "what is left of its channels without weights is read by no pruned tensor")
        elif group.count == 1:
            _note(reasons, group, "it has a single channel")
        else:
            for part in group.slices:
                if part.tensor in names:
                    cut = Cut(number, part.axis, torch.from_numpy(part.positions), makes=part.role == "makes")
                    cuts.setdefault(part.tensor, []).append(cut)
    left = {name: reasons.get(name, "none of its dimensions runs along channels") for name in names - cuts.keys()}
    return Prunable({name: tuple(found) for name, found in cuts.items()}, left)


def _held(group: ChannelGroup, others: AbstractSet[str]) -> str:
    """Return why a group stays whole that a tensor shares which is not pruned the same way."""
    held = next((part.tensor for part in group.slices if part.tensor in others), "")
    return f"{held!r} shares its channels and is not pruned the same way" if held else ""


def _note(reasons: dict[str, str], group: ChannelGroup, reason: str) -> None:
    for part in group.slices:
        if part.role == "makes" or part.tensor not in reasons:  # what a layer makes says more than what it reads
            reasons[part.tensor] = reason


def _silenced(graph: Graph, groups: Iterable[ChannelGroup], names: AbstractSet[str]) -> dict[str, np.ndarray]:
    """Return initializers of ones, with zeros where the channels of ``groups`` have slices of tensors in ``names``."""
    known = graph.initializers
    arrays = {name: np.ones(known.shape(name), np.int8) for name in known if known.dtype(name).kind == "f"}
    for group in groups:
        for part in group.slices:
            if part.tensor in names and part.tensor in arrays:
                np.moveaxis(arrays[part.tensor], part.axis, 0)[part.positions.ravel()] = 0
    return arrays
