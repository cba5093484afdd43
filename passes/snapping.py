"""Weights that are fixed to their levels in stages, while the others train on to make up for it.

arXiv 1903.09769, section 4: a projection of all weights at once costs accuracy where ADMM has not brought them onto
their levels. So those nearest to a level are put there and stay, the rest trains on, and so forth.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from passes.base import Formats, Tensors
from toolchain.checkpoint import State
from toolchain.formats import TensorFormat


@dataclass(frozen=True, eq=False)
class Snapped:
    """Which weights are fixed, and the grids they lie on.

    Attributes:
        formats: of the tensors; grids do not move any more once weights lie on them.
        fixed: by tensor name, bool of the tensor's shape: True where a weight no longer trains.
    """

    formats: Formats
    fixed: Mapping[str, Tensor]

    @classmethod
    def start(cls, weights: Tensors, formats: Formats) -> "Snapped":
        """Return the grids that will hold, with no weight fixed yet."""
        return cls(formats, {name: torch.zeros_like(weight, dtype=torch.bool) for name, weight in weights.items()})

    @torch.no_grad()
    def snap(self, weights: Tensors, share: float) -> "Snapped":
        """Put the weights nearest to their levels there, in place, until ``share`` of what each tensor keeps is fixed.

        What is fixed already stays so, and counts.
        """
        fixed = {}
        for name, weight in weights.items():
            target = self.formats[name].project(weight)
            fixed[name] = _nearest(self._distance(name, weight - target), self.formats[name].mask, share)
            weight.copy_(torch.where(fixed[name], target, weight))
        return Snapped(self.formats, fixed)

    def _distance(self, name: str, gap: Tensor) -> Tensor:
        """Return how far weights are from their levels, in steps of the grid; below 0 where they are fixed."""
        grid = self.formats[name].grid
        steps = gap.abs() if grid is None else gap.abs() / grid.broadcast_scale(gap.shape)
        return torch.where(self.fixed[name], -1.0, steps)

    @torch.no_grad()
    def hold(self, weights: Tensors, levels: Tensors) -> None:
        """Put fixed weights back in place onto ``levels``, from which a step's momentum or rounding moved them."""
        for name, weight in weights.items():
            weight.copy_(torch.where(self.fixed[name], levels[name], weight))

    def state(self) -> State:
        """Return everything as a checkpoint holds it."""
        formats = {name: found.state() for name, found in self.formats.items()}
        return {"formats": formats, "fixed": dict(self.fixed)}

    @classmethod
    def from_state(cls, state: State, device: torch.device) -> "Snapped":
        """Return what ``state`` was made of, on ``device``."""
        formats = {name: TensorFormat.from_state(saved).to(device) for name, saved in state["formats"].items()}
        return cls(formats, {name: fixed.to(device) for name, fixed in state["fixed"].items()})


def _nearest(distance: Tensor, mask: Tensor | None, share: float) -> Tensor:
    """Return where the smallest distances are, exactly ``share`` of those inside the mask; ties by position."""
    kept = distance.numel() if mask is None else int(mask.sum())
    inside = distance if mask is None else torch.where(mask, distance, torch.inf)
    order = inside.reshape(-1).argsort(stable=True)[: round(share * kept)]
    chosen = torch.zeros(distance.numel(), dtype=torch.bool, device=distance.device)
    chosen[order] = True
    return chosen.view(distance.shape)
