"""The least-squares problem of one layer: rows of weights, the covariance of their inputs, and a grid."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from passes.constraints.levels import TINIEST, storable
from passes.constraints.stacks import from_stack, to_stack
from toolchain.formats import Grid, TensorFormat
from toolchain.graph.layout import Layout


@dataclass(frozen=True, eq=False)
class Problem:
    """Find W on a grid that minimises ``sum over rows of (W - T) H (W - T)'``.

    S is the number of matrices that a layer has, such as the groups of a convolution, N of rows in each (outputs), K of
    columns (inputs times kernel positions).

    Attributes:
        target: T, ``[S, N, K]``: the weights that answer best without a grid.
        covariance: H, ``[S, K, K]``, of the layer's inputs; positive definite.
        layout: how the layer's tensor is read as such matrices.
        mask: which weights of the tensor are kept; None for all.
        grid: that the tensor's weights are to lie on.
    """

    target: Tensor
    covariance: Tensor
    layout: Layout
    mask: Tensor | None
    grid: Grid

    @property
    def format(self) -> TensorFormat:
        """The mask and the grid."""
        return TensorFormat(self.mask, self.grid)

    def rows(self, values: Tensor) -> Tensor:
        """Return a tensor of the layer's shape as ``[S, N, K]``."""
        return to_stack(values, self.layout).flatten(2)

    def tensor(self, rows: Tensor) -> Tensor:
        """Return ``[S, N, K]`` as a tensor of the layer's shape."""
        return from_stack(rows, self.layout).contiguous()

    def project(self, rows: Tensor) -> Tensor:
        """Return the nearest point of the grid, ``[S, N, K]``."""
        return self.rows(self.format.project(self.tensor(rows)))

    def column_grid(self) -> "ColumnGrid":
        """Return what projects single columns."""
        shape = self.layout.shape
        zero = self.grid.broadcast_zero(shape)
        spread = torch.as_tensor(zero, device=self.target.device).float().expand(shape)
        mask = torch.ones(shape, dtype=torch.bool, device=self.target.device) if self.mask is None else self.mask
        scale = self.rows(self.grid.broadcast_scale(shape).expand(shape))
        levels = torch.tensor(self.grid.levels, dtype=torch.float32, device=self.target.device)
        return ColumnGrid(scale, self.rows(spread), self.rows(mask), levels)

    def error(self, rows: Tensor) -> Tensor:
        """Return the squared error of every row, ``[S, N]``."""
        difference = rows - self.target
        return ((difference @ self.covariance) * difference).sum(2)

    def refitted(self, rows: Tensor) -> "Problem":
        """Return the problem with the scales that suit the levels of ``rows`` best.

        With levels q and the covariance H a scale is ``<q, H t> / <q, H q>``, summed over what shares it. Blocks of a
        row depend on each other: their scales stay those of the weights.
        """
        grid = self.grid
        if grid.block_size:
            return self
        unit = replace(grid, scale=torch.ones_like(grid.scale))
        levels = self.rows(unit.dequantize(grid.quantize(self.tensor(rows))))
        levels = levels * self.column_grid().kept
        product = ((self.target @ self.covariance) * levels).sum(2).reshape(-1)
        norm = ((levels @ self.covariance) * levels).sum(2).reshape(-1)
        if grid.axis is None:
            product, norm = product.sum(), norm.sum()
        good = (norm > 0) & (product > 0)
        scale = torch.where(good, product / norm.clamp_min(TINIEST), grid.scale)
        return replace(self, grid=replace(grid, scale=storable(scale.clamp_min(TINIEST), grid.levels)))


@dataclass(frozen=True, eq=False)
class ColumnGrid:
    """The grid of every single weight.

    Attributes:
        scale: ``[S, N, K]``.
        zero: the level that stands for 0, ``[S, N, K]``.
        kept: ``[S, N, K]``, False where the weight is pruned.
        levels: ``[L]``.
    """

    scale: Tensor
    zero: Tensor
    kept: Tensor
    levels: Tensor

    def project(self, values: Tensor, column: int) -> Tensor:
        """Return the nearest allowed values of one column, ``[S, N]``."""
        scale, zero = self.scale[..., column], self.zero[..., column]
        middles = (self.levels[1:] + self.levels[:-1]) / 2
        level = self.levels[torch.bucketize((values / scale + zero).contiguous(), middles)]
        return (level - zero) * scale * self.kept[..., column]
