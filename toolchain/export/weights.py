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
    """Return the int8 levels of a weight on a grid, 0 where it is masked out; ``level * scale`` is the weight.

    Raises:
        ExportError: the weight has left its format, or a level does not fit 8 bits.
    """
    weight_format = module.formats[name]
    grid = weight_format.grid
    if grid is None or grid.zero_point:
        raise ExportError(f"weight {name!r} has no grid whose zero is level 0, so it has no integer levels")
    if grid.levels[0] < -127 or grid.levels[-1] > 127:
        raise ExportError(f"weight {name!r} has levels {grid.levels[0]} to {grid.levels[-1]}, int8 holds -127 to 127")
    weight = module.tensor(name).detach()
    levels = grid.quantize(weight).to(torch.int8)
    if weight_format.mask is not None:
        levels = torch.where(weight_format.mask.to(levels.device), levels, torch.zeros_like(levels))
    wrong = int((grid.dequantize(levels) != weight).sum())
    if wrong:
        raise ExportError(
            f"weight {name!r} has {wrong:,} of {weight.numel():,} values off its format",
            hint="project the weight onto module.formats before the export",
        )
    array: np.ndarray = levels.cpu().numpy()
    return array


def weight_scale(module: OnnxModule, name: str) -> np.ndarray:
    """Return the float32 scale of a weight's grid: ``[]``, or ``[C]`` along the grid's axis."""
    grid = module.formats[name].grid
    if grid is None:
        raise ExportError(f"weight {name!r} has no grid")
    scale: np.ndarray = grid.scale.detach().cpu().numpy().astype(np.float32)
    return scale


def is_changed(module: OnnxModule, name: str) -> bool:
    """Return whether the module's tensor differs from the graph's initializer, bit for bit."""
    original = module.graph.initializers[name]
    return weight_array(module, name).tobytes() != original.tobytes()
