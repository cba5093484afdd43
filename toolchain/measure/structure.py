"""How the zeros of a tensor lie, seen from its values."""

import torch
from torch import Tensor

from passes.constraints.stacks import to_stack
from toolchain.graph.layout import Layout
from toolchain.grouping import find_groups
from toolchain.structures import PATTERN_SIZE, group_count

DENSE = "dense"
UNSTRUCTURED = "unstructured"

_SIDES = (16, 8, 4, 2, 1)
_BLOCKS = sorted(((rows, columns) for rows in _SIDES for columns in _SIDES), key=lambda size: -size[0] * size[1])[:-1]
_LONGEST = 32  # of N:M, the largest M that is looked for
_FULL = 0.95  # part of N in M that is really kept: quantizing may round some weights to zero
_MOST_PATTERNS = 8


def find_structure(values: Tensor, layout: Layout | None) -> str:
    """Return the structure of a tensor as ``--structure`` names it, ``"dense"`` without zeros, or ``"unstructured"``.

    A structure of units holds when whole units are zero, and fewer zeros than one unit lie in the others: an exact
    count of kept weights ends inside a unit.
    """
    kept = values != 0
    if bool(kept.all()):
        return DENSE
    if layout is None or not bool(kept.any()):
        return UNSTRUCTURED
    stack = to_stack(kept, layout)
    _, outputs, inputs, positions = layout.stack
    for kind, extent in (("filter", (1, inputs, positions)), ("column", (outputs, 1, 1))):
        if extent != (1, 1, 1) and layout.stack != (1, *extent) and _in_units(stack, extent):
            return kind
    return _grouped(stack, layout) or _patterned(stack, layout) or _n_of_m(stack) or _blocked(stack) or UNSTRUCTURED


def _in_units(stack: Tensor, extent: tuple[int, int, int], spare: int = 0) -> bool:
    """Return whether zeros come in whole units, but for fewer than one unit and ``spare`` of them."""
    padding = [pad for size, step in zip(stack.shape[:0:-1], extent[::-1], strict=True) for pad in (0, -size % step)]
    padded = torch.nn.functional.pad(stack.to(torch.uint8), padding)
    cut = [size for total, step in zip(padded.shape[1:], extent, strict=True) for size in (total // step, step)]
    kept = padded.reshape(len(stack), *cut).sum((2, 4, 6), dtype=torch.int64)
    whole = torch.nn.functional.pad(torch.ones_like(stack, dtype=torch.uint8), padding)
    sizes = whole.reshape(len(stack), *cut).sum((2, 4, 6), dtype=torch.int64)
    alive = kept > 0
    inside = int((sizes - kept)[alive].sum())
    return not bool(alive.all()) and inside < extent[0] * extent[1] * extent[2] + spare


def _grouped(stack: Tensor, layout: Layout) -> str:
    if len(stack) > 1:
        return ""
    kernels = stack[0].any(2)
    count = group_count(layout)
    group = find_groups(kernels, count)
    if group is None:
        return ""
    read = torch.zeros(count, kernels.shape[1], dtype=torch.int64).index_add_(0, group, kernels.to(torch.int64)) > 0
    inside = int(read[group].sum()) * stack.shape[3] - int(stack.sum())
    return "groups" if inside < len(kernels) // count * stack.shape[3] else ""


def _patterned(stack: Tensor, layout: Layout) -> str:
    if layout.kernel_shape != (3, 3):
        return ""
    kernels = stack.reshape(-1, 9)
    alive = kernels[kernels.any(1)]
    full = alive[alive.sum(1) == PATTERN_SIZE]
    few = len(alive) - len(full) <= 1 and len(torch.unique(full, dim=0)) <= _MOST_PATTERNS
    return "pattern" if few and int(alive.sum(1).max()) <= PATTERN_SIZE else ""


def _n_of_m(stack: Tensor) -> str:
    matrices, outputs, inputs, positions = stack.shape
    density = float(stack.sum()) / stack.numel()
    for of in range(2, min(_LONGEST, inputs) + 1):
        kept = max(1, round(density * of))
        if inputs % of or kept == of or not _FULL * kept <= density * of <= kept:
            continue
        if int(stack.reshape(matrices, outputs, inputs // of, of, positions).sum(3).max()) <= kept:
            return f"{kept}:{of}"
    return ""


def _blocked(stack: Tensor) -> str:
    likely = any(_in_units(stack, extent, spare=_SIDES[0] ** 2) for extent in ((2, 1, 1), (1, 2, 1)))
    for rows, columns in _BLOCKS if likely else ():
        if rows <= stack.shape[1] and columns <= stack.shape[2] and _in_units(stack, (rows, columns, 1)):
            return f"block{rows}x{columns}"
    return ""
