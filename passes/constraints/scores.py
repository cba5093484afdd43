"""What a weight is worth: the error of removing it, weighed by what is known of the loss."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from toolchain.graph.layout import Layout


@dataclass(frozen=True, eq=False)
class Cut:
    """The slices of a tensor that belong to the channels of a group.

    Attributes:
        group: number of the group, the same in all tensors that share its channels.
        axis: the dimension that loses positions with channels.
        positions: int64 ``[channels, positions per channel]``, on the CPU.
        makes: whether the tensor makes the channels by it; others read them.
    """

    group: int
    axis: int
    positions: Tensor
    makes: bool = False


@dataclass(frozen=True, eq=False)
class Target:
    """One tensor of a budget, as a set sees it.

    Attributes:
        weigh: computes ``energy``.
        alive: bool, the tensor's shape: what earlier passes left.
        relative: whether the cost of a weight counts as a part of what costs as much or more in its tensor: LAMP, so
            that no layer vanishes.
        relative_units: the same for units of several weights.
        layout: what its dimensions are; None where nobody asks.
        cost: of keeping a weight, in any unit, by which its score is divided when tensors are compared.
        cuts: the channels that it shares with others.
    """

    weigh: Callable[[], Tensor]
    alive: Tensor
    relative: bool
    relative_units: bool
    layout: Layout | None = None
    cost: float = 1.0
    cuts: tuple[Cut, ...] = ()

    @property
    def energy(self) -> Tensor:
        """What removing each weight costs, its square times its curvature; the tensor's shape, 0 where dead.

        It is computed whenever it is asked for, so that the energies of all tensors are not in memory together.
        """
        return self.weigh()


@dataclass(frozen=True)
class Score:
    """How weights are compared over tensors.

    Units of one tensor differ less than its weights do, the more so the larger they are, so that one cut through all
    tensors takes nearly all of a tensor or nothing: what units cost is better taken relative to their tensor.
    ResNet-20 in one shot, CIFAR-10 accuracy by curvature and by LAMP: 4x1 blocks 2x 41 and 66 %, columns 1.5x 41 and
    49 %, groups 1.5x 29 and 44 %; single weights 2x 82 and 83 %.

    Attributes:
        energy: of a weight and the curvature, where known.
        relative: as of ``Target``, by whether the curvature is known.
        relative_units: as of ``Target``.
    """

    energy: Callable[[Tensor, Tensor | None], Tensor]
    relative: Callable[[Tensor | None], bool]
    relative_units: bool


def _squared(weight: Tensor, _curvature: Tensor | None) -> Tensor:
    return weight.square()


def _curved(weight: Tensor, curvature: Tensor | None) -> Tensor:
    return weight.square() if curvature is None else curvature.add(1e-16).sqrt_().mul_(weight).mul_(weight)


def _normalised(weight: Tensor, _curvature: Tensor | None) -> Tensor:
    squared = weight.square()
    return squared / squared.mean().clamp_min(1e-30)


SCORES = {
    "magnitude": Score(_squared, lambda _: False, relative_units=False),
    "normalised": Score(_normalised, lambda _: False, relative_units=False),
    # Before the first step nothing is known of the curvature.
    "curvature": Score(_curved, lambda curvature: curvature is None, relative_units=True),
    "lamp": Score(_squared, lambda _: True, relative_units=True),
}


def relative(energy: Tensor, sizes: Tensor | None = None) -> Tensor:
    """Return LAMP's score: each energy divided by the sum of all of its tensor that are at least as large.

    Lee et al., "Layer-adaptive sparsity for the magnitude-based pruning", ICLR 2021, eq. 3, there of single weights.

    Args:
        energy: non-negative, of any shape.
        sizes: how many weights share each energy; energies per weight are then compared.
    """
    keys = energy if sizes is None else energy / sizes.clamp_min(1)
    order = keys.flatten().argsort(stable=True)
    sorted_energy = energy.flatten()[order]
    remaining = sorted_energy.flip(0).cumsum(0).flip(0).clamp_min(1e-30)
    return torch.empty_like(sorted_energy).index_copy_(0, order, sorted_energy / remaining).view_as(energy)
