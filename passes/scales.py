"""Scales of grids that learn along with the weights (LSQ: Esser et al., ICLR 2020)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from passes.base import Formats
from passes.constraints.levels import storable
from toolchain.checkpoint import State


@dataclass
class LearnedScales:
    """Logarithms of scales, by tensor name: an optimizer's step changes each by about the same part.

    Attributes:
        formats: of the tensors when learning begins; those without a grid have no scales.
        logarithms: what the optimizer changes.
    """

    formats: Formats
    logarithms: dict[str, nn.Parameter] = field(init=False)

    def __post_init__(self) -> None:
        """Begin at the scales as they are."""
        grids = {name: found.grid for name, found in self.formats.items()}
        self.logarithms = {name: nn.Parameter(grid.scale.log()) for name, grid in grids.items() if grid is not None}

    def add_gradient(self, name: str, latent: Tensor, gradient: Tensor) -> None:
        """Set the gradient of a tensor's scales, from that of its projection.

        With a level q and a weight v the projection ``s q`` changes with s by ``q - v / s`` inside the range of levels,
        where rounding passes v on, and by ``q`` where v is clipped (Esser et al., equation 3); pruned weights by 0.

        Args:
            name: of the tensor.
            latent: v.
            gradient: of the loss with respect to the projected tensor.
        """
        tensor_format = self.formats[name]
        grid, logarithm = tensor_format.grid, self.logarithms[name]
        if grid is None:
            return
        grid = replace(grid, scale=logarithm.detach().exp())
        zero = grid.broadcast_zero(latent.shape)
        position = latent / grid.broadcast_scale(latent.shape)
        low, high = (level - zero for level in (grid.levels[0], grid.levels[-1]))
        inside = (position > low) & (position < high)
        change = (grid.quantize(latent) - zero) - torch.where(inside, position, 0.0)
        weighted = gradient * change
        if tensor_format.mask is not None:
            weighted = weighted * tensor_format.mask
        with torch.enable_grad():
            scale = replace(grid, scale=logarithm.exp()).broadcast_scale(latent.shape)
            total = (weighted.detach() * scale).sum()
        (logarithm.grad,) = torch.autograd.grad(total, logarithm)

    @torch.no_grad()
    def tightened(self, formats: Formats) -> Formats:
        """Return the formats with the scales as they are now, which a file can hold."""
        found = {}
        for name, logarithm in self.logarithms.items():
            grid = formats[name].grid
            if grid is not None:
                found[name] = replace(formats[name], grid=replace(grid, scale=storable(logarithm.exp(), grid.levels)))
        return found

    def state(self) -> State:
        """Return everything as a checkpoint holds it."""
        return {name: logarithm.detach() for name, logarithm in self.logarithms.items()}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""
        for name, logarithm in self.logarithms.items():
            logarithm.copy_(state[name])
