"""Reads a module's weights as the integers and scales that a file stores."""

import numpy as np
import torch

from toolchain.errors import ExportError
from toolchain.formats import Grid
from toolchain.module import OnnxModule


def weight_array(module: OnnxModule, name: str) -> np.ndarray:
    """Return the tensor's present values as they are, on the CPU."""
    array: np.ndarray = module.tensor(name).detach().cpu().numpy()
    return array


def weight_grid(module: OnnxModule, name: str) -> Grid | None:
    """Return the grid of a weight, if it has one."""
    found = module.formats.get(name)
    return None if found is None else found.grid


def weight_levels(module: OnnxModule, name: str) -> np.ndarray:
    """Return the levels of a weight less their zero points, 0 where it is masked out; times the scale it is the weight.

    They are int8, or int16 where that does not hold them: 8-bit levels whose zero point is not in their middle.

    Raises:
        ExportError: the weight is on no grid, or has left its format.
    """
    weight_format = module.formats[name]
    grid = weight_format.grid
    if grid is None:
        raise ExportError(f"weight {name!r} has no grid, so it has no integer levels")
    weight = module.tensor(name).detach()
    levels = (grid.quantize(weight) - grid.broadcast_zero(weight.shape)).to(torch.int16)
    if weight_format.mask is not None:
        levels = torch.where(weight_format.mask.to(levels.device), levels, torch.zeros_like(levels))
    if fits_int8(grid):
        levels = levels.to(torch.int8)
    wrong = int((levels.to(torch.float32) * grid.broadcast_scale(weight.shape) != weight).sum())
    if wrong:
        raise ExportError(
            f"weight {name!r} has {wrong:,} of {weight.numel():,} values off its format",
            hint="project the weight onto module.formats before the export",
        )
    array: np.ndarray = levels.cpu().numpy()
    return array


def fits_int8(grid: Grid) -> bool:
    """Return whether -127 to 127 holds every level less its zero point."""
    zero = torch.as_tensor(grid.zero_point)
    return bool((grid.levels[0] - zero >= -127).all()) and bool((grid.levels[-1] - zero <= 127).all())


def weight_zero(module: OnnxModule, name: str) -> np.ndarray | None:
    """Return the uint8 zero points of a weight's grid, of the shape of its scale; None where all are 0."""
    grid = module.formats[name].grid
    if grid is None or not isinstance(grid.zero_point, torch.Tensor):
        return None
    zero: np.ndarray = grid.zero_point.detach().cpu().numpy().astype(np.uint8)
    return zero


def weight_scale(module: OnnxModule, name: str) -> np.ndarray:
    """Return the float32 scale of a weight's grid: ``[]``, ``[C]`` along its axis, or ``[C, blocks]``."""
    grid = module.formats[name].grid
    if grid is None:
        raise ExportError(f"weight {name!r} has no grid")
    scale: np.ndarray = grid.scale.detach().cpu().numpy().astype(np.float32)
    return scale


def is_changed(module: OnnxModule, name: str) -> bool:
    """Return whether the module's tensor differs from the graph's initializer, bit for bit."""
    original = module.graph.initializers[name]
    return weight_array(module, name).tobytes() != original.tobytes()
