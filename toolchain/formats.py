"""Tensor formats: which values a tensor may take, as a mask, a grid, or both."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad


def index_bits(levels: Sequence[int]) -> int:
    """Return how many bits the index of one of ``levels`` needs, at least one."""
    return max(1, (len(levels) - 1).bit_length())


@dataclass(frozen=True, eq=False)
class Grid:
    """The values ``scale * (level - zero_point)``.

    Levels are sorted integers, so that any grid whose levels less their zero point fit 8 bits is executed exactly by an
    8-bit integer kernel. A grid need not contain zero: zeros of a pruned tensor come from its mask.

    Attributes:
        levels: sorted distinct integers, for example ``(-2, -1, 1, 2)``.
        scale: float32, positive; shape ``[]`` for one scale per tensor, ``[C]`` for one per index of ``axis``,
            ``[C, blocks]`` for one per block of what lies at an index of ``axis``.
        zero_point: the level that stands for 0.0: one for all, or an int32 tensor of the shape of ``scale``.
        axis: the dimension of the tensor that ``scale`` runs along; None when ``scale`` is a scalar.
        block_size: how many values, in the order of the other dimensions, share a scale; the last block of an index may
            be shorter. 0 where there are no blocks.
    """

    levels: tuple[int, ...]
    scale: Tensor
    zero_point: int | Tensor = 0
    axis: int | None = None
    block_size: int = 0

    def __post_init__(self) -> None:
        """Check the invariants above."""
        if not self.levels or list(self.levels) != sorted(set(self.levels)):
            raise ValueError(f"levels must be sorted and distinct, got {self.levels}")
        if self.scale.ndim != (0 if self.axis is None else 2 if self.block_size else 1):
            shape, block = tuple(self.scale.shape), self.block_size
            raise ValueError(f"scale has shape {shape}, which does not fit axis={self.axis}, block_size={block}")
        if isinstance(self.zero_point, Tensor) and self.zero_point.shape != self.scale.shape:
            zeros, scales = tuple(self.zero_point.shape), tuple(self.scale.shape)
            raise ValueError(f"zero points have shape {zeros}, scales {scales}")
        if not bool((self.scale > 0).all()):
            raise ValueError("scales must be positive")

    @property
    def bits(self) -> int:
        """Bits that one level index needs."""
        return index_bits(self.levels)

    @property
    def contiguous(self) -> bool:
        """Whether the levels are all integers from the first to the last."""
        return len(self.levels) == self.levels[-1] - self.levels[0] + 1

    def broadcast_scale(self, shape: Sequence[int]) -> Tensor:
        """Return the scale shaped so that it broadcasts over a tensor of ``shape``."""
        return self._spread(self.scale, shape)

    def broadcast_zero(self, shape: Sequence[int]) -> int | Tensor:
        """Return the zero point so that it broadcasts over a tensor of ``shape``."""
        return self._spread(self.zero_point, shape) if isinstance(self.zero_point, Tensor) else self.zero_point

    def _spread(self, values: Tensor, shape: Sequence[int]) -> Tensor:
        if self.axis is None:
            return values
        if not self.block_size:
            return values.reshape([-1 if axis == self.axis else 1 for axis in range(len(shape))])
        others = [size for axis, size in enumerate(shape) if axis != self.axis % len(shape)]
        rows = values.repeat_interleave(self.block_size, 1)[:, : prod(others)]
        return rows.reshape(-1, *others).movedim(0, self.axis)

    def quantize(self, values: Tensor) -> Tensor:
        """Return the nearest level of every value: int32, the shape of ``values``."""
        position, zero = values / self.broadcast_scale(values.shape), self.broadcast_zero(values.shape)
        if self.contiguous:  # rounding, half to even and before the zero point is added, as QuantizeLinear does
            return (position.round() + zero).clamp(self.levels[0], self.levels[-1]).to(torch.int32)
        levels = torch.tensor(self.levels, dtype=position.dtype, device=position.device)
        index = torch.bucketize(position + zero, (levels[1:] + levels[:-1]) / 2)
        return levels[index].to(torch.int32)

    def dequantize(self, levels: Tensor) -> Tensor:
        """Return the float32 values that integer ``levels`` stand for."""
        shape = levels.shape
        return (levels - self.broadcast_zero(shape)).to(torch.float32) * self.broadcast_scale(shape)

    def to(self, device: torch.device) -> "Grid":
        """Return the same grid with its tensors on ``device``."""
        zero = self.zero_point
        return replace(
            self, scale=self.scale.to(device), zero_point=zero.to(device) if isinstance(zero, Tensor) else zero
        )


@dataclass(frozen=True)
class OwnRange:
    """8 bits over the range that values have themselves, another one in every run.

    Attributes:
        axis: the dimension that blocks run along; None where all values, and zero, share a range from the least to the
            largest, as the operator DynamicQuantizeLinear has it.
        block_size: how many values along ``axis`` share a range around zero, as MatMulNBits has it; the last block may
            be shorter. 0 where there are no blocks.
    """

    axis: int | None = None
    block_size: int = 0

    def project(self, values: Tensor) -> Tensor:
        """Return the values as the operator rounds them."""
        if not values.numel():
            return values
        if self.axis is None:
            low, high = values.amin().clamp_max(0.0), values.amax().clamp_min(0.0)
            scale = torch.where(high > low, (high - low) / 255, 1.0)
            zero = (-low / scale).round().clamp(0, 255)
            return (((values / scale).round() + zero).clamp(0, 255) - zero) * scale
        last = values.movedim(self.axis, -1)
        padded = pad(last, (0, -last.shape[-1] % self.block_size))
        blocks = padded.reshape(*last.shape[:-1], -1, self.block_size)
        scale = blocks.abs().amax(-1, keepdim=True) / 127
        rounded = (blocks / torch.where(scale > 0, scale, 1.0)).round() * scale
        return rounded.reshape(padded.shape)[..., : last.shape[-1]].movedim(-1, self.axis)


@dataclass(frozen=True, eq=False)
class Rescaling:
    """How an integer kernel brings its sums of products to the steps of its output, digit by digit (QLinearConv).

    Attributes:
        step: float32 ``[]`` or ``[C]``, what a sum of 1 stands for: the scale of the input times that of the weight.
        output: float32 ``[]``, the scale of what the kernel makes.
    """

    step: Tensor
    output: Tensor

    def project(self, values: Tensor) -> Tensor:
        """Return the steps that the kernel makes of the sums that ``values`` are nearest to; none is clipped yet."""
        step = self.step
        if step.ndim:  # channels are the second dimension
            step = step.reshape(-1, *[1] * (values.ndim - 2))
        sums = (values.double() / step).round().float()
        return (sums * (step / self.output)).round() * self.output

    def to(self, device: torch.device) -> "Rescaling":
        """Return the same with its tensors on ``device``."""
        return replace(self, step=self.step.to(device), output=self.output.to(device))


@dataclass(frozen=True, eq=False)
class TensorFormat:
    """The set of values that a tensor may take: zero outside ``mask``, on ``grid`` inside it.

    Attributes:
        mask: bool, the tensor's shape, True where a weight is kept; None keeps all.
        grid: the allowed values of what is kept; None allows every float.
        own_range: how the values, of an activation, are rounded in every run; then there is no grid.
        rescaling: of what an integer kernel makes, how that gets there; rounded to ``grid`` afterwards, if at all.
    """

    mask: Tensor | None = None
    grid: Grid | None = None
    own_range: OwnRange | None = None
    rescaling: Rescaling | None = None

    def project(self, values: Tensor) -> Tensor:
        """Return ``argmin |z - values|`` over the z of this format; zeros stay zero.

        Idempotent with a mask and a grid; a range of the values' own is another one afterwards.
        """
        if self.own_range is not None:
            return self.own_range.project(values)
        if self.rescaling is not None:
            values = self.rescaling.project(values)
        if self.grid is not None:
            values = self.grid.dequantize(self.grid.quantize(values))
        if self.mask is not None:
            values = torch.where(self.mask, values, torch.zeros((), dtype=values.dtype, device=values.device))
        return values

    def state(self) -> dict[str, Any]:
        """Return everything as a checkpoint holds it: tensors and JSON values."""
        grid = None
        if self.grid is not None:
            grid = {"levels": list(self.grid.levels), "scale": self.grid.scale, "axis": self.grid.axis}
            grid |= {"zero_point": self.grid.zero_point, "block_size": self.grid.block_size}
        own_range = None if self.own_range is None else asdict(self.own_range)
        rescaling = None if self.rescaling is None else vars(self.rescaling)
        return {"mask": self.mask, "grid": grid, "own_range": own_range, "rescaling": rescaling}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "TensorFormat":
        """Return the format that ``state`` was made of."""
        grid = state["grid"]
        if grid is not None:
            grid = Grid(**{**grid, "levels": tuple(grid["levels"])})
        own_range = None if state["own_range"] is None else OwnRange(**state["own_range"])
        rescaling = None if state["rescaling"] is None else Rescaling(**state["rescaling"])
        return cls(state["mask"], grid, own_range, rescaling)

    def to(self, device: torch.device) -> "TensorFormat":
        """Return the same format with its tensors on ``device``."""
        grid = None if self.grid is None else self.grid.to(device)
        rescaling = None if self.rescaling is None else self.rescaling.to(device)
        return replace(self, mask=None if self.mask is None else self.mask.to(device), grid=grid, rescaling=rescaling)
