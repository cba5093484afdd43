"""Tensor formats: which values a tensor may take, as a mask, a grid, or both."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Grid:
    """The values ``scale * (level - zero_point)``.

    Levels are sorted integers, so that any grid of up to 8 bits is executed exactly by an 8-bit integer kernel.
    A grid need not contain zero: zeros of a pruned tensor come from its mask.

    Attributes:
        levels: sorted distinct integers, for example ``(-2, -1, 1, 2)``.
        scale: float32, positive; shape ``[]`` for one scale per tensor, ``[C]`` for one per index of ``axis``.
        zero_point: the level that stands for 0.0; other than 0 only for activations.
        axis: the dimension of the tensor that ``scale`` runs along; None when ``scale`` is a scalar.
    """

    levels: tuple[int, ...]
    scale: Tensor
    zero_point: int = 0
    axis: int | None = None

    def __post_init__(self) -> None:
        """Check the invariants above."""
        if not self.levels or list(self.levels) != sorted(set(self.levels)):
            raise ValueError(f"levels must be sorted and distinct, got {self.levels}")
        if self.scale.ndim != (0 if self.axis is None else 1):
            raise ValueError(f"scale has shape {tuple(self.scale.shape)}, which does not fit axis={self.axis}")
        if not bool((self.scale > 0).all()):
            raise ValueError("scales must be positive")

    @property
    def bits(self) -> int:
        """Bits that one level index needs."""
        return max(1, (len(self.levels) - 1).bit_length())

    def broadcast_scale(self, ndim: int) -> Tensor:
        """Return the scale shaped so that it broadcasts over a tensor of rank ``ndim``."""
        if self.axis is None:
            return self.scale
        shape = [1] * ndim
        shape[self.axis] = -1
        return self.scale.reshape(shape)

    def quantize(self, values: Tensor) -> Tensor:
        """Return the nearest level of every value: int32, the shape of ``values``."""
        position = values / self.broadcast_scale(values.ndim) + self.zero_point
        low, high = self.levels[0], self.levels[-1]
        if len(self.levels) == high - low + 1:  # contiguous levels: rounding, half to even as QuantizeLinear does
            return position.round().clamp(low, high).to(torch.int32)
        levels = torch.tensor(self.levels, dtype=position.dtype, device=position.device)
        index = torch.bucketize(position, (levels[1:] + levels[:-1]) / 2)
        return levels[index].to(torch.int32)

    def dequantize(self, levels: Tensor) -> Tensor:
        """Return the float32 values that integer ``levels`` stand for."""
        return (levels - self.zero_point).to(torch.float32) * self.broadcast_scale(levels.ndim)


@dataclass(frozen=True, eq=False)
class TensorFormat:
    """The set of values that a tensor may take: zero outside ``mask``, on ``grid`` inside it.

    Attributes:
        mask: bool, the tensor's shape, True where a weight is kept; None keeps all.
        grid: the allowed values of what is kept; None allows every float.
    """

    mask: Tensor | None = None
    grid: Grid | None = None

    def project(self, values: Tensor) -> Tensor:
        """Return ``argmin |z - values|`` over the z of this format; idempotent, zeros stay zero."""
        if self.grid is not None:
            values = self.grid.dequantize(self.grid.quantize(values))
        if self.mask is not None:
            values = torch.where(self.mask, values, torch.zeros((), dtype=values.dtype, device=values.device))
        return values

    def state(self) -> dict[str, Any]:
        """Return everything as a checkpoint holds it: tensors and JSON values."""
        grid = None
        if self.grid is not None:
            grid = {"levels": list(self.grid.levels), "scale": self.grid.scale}
            grid |= {"zero_point": self.grid.zero_point, "axis": self.grid.axis}
        return {"mask": self.mask, "grid": grid}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "TensorFormat":
        """Return the format that ``state`` was made of."""
        grid = state["grid"]
        if grid is not None:
            grid = Grid(tuple(grid["levels"]), grid["scale"], grid["zero_point"], grid["axis"])
        return cls(state["mask"], grid)

    def to(self, device: torch.device) -> "TensorFormat":
        """Return the same format with its tensors on ``device``."""
        grid = self.grid
        if grid is not None:
            grid = Grid(grid.levels, grid.scale.to(device), grid.zero_point, grid.axis)
        return TensorFormat(None if self.mask is None else self.mask.to(device), grid)
