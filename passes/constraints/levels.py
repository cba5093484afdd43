"""Level constraints: every kept weight is a scale times a small integer."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from passes.base import Constraint, Formats, Tensors
from toolchain.formats import Grid, TensorFormat

ITERATIONS = 12  # alternations of scale and levels; the error hardly changes after eight

# Searched for the scale that the alternation starts from, as fractions of the largest value in the channel.
STARTS = (0.25, 0.35, 0.5, 0.65, 0.8, 1.0)

# Starts are compared on a sample of large tensors: so many values in all, or so many per channel.
ENOUGH = 32768
ENOUGH_PER_CHANNEL = 256

TINIEST = 1e-30  # scales are positive, also of a channel of zeros


@dataclass(frozen=True)
class LevelTarget:
    """The levels that kept weights may take, and the dimension with a scale per index (None: one scale in all)."""

    levels: tuple[int, ...]
    axis: int | None


@dataclass(frozen=True)
class Levels(Constraint):
    """The set ``scale * level`` on the support that is fixed already.

    The projection alternates ``level = nearest(v / scale)`` and ``scale = <v, level> / <level, level>`` (least squares)
    from several starts (arXiv 1903.09769, section 4). For binary levels the first step is exact: scale = mean |v|.
    """

    targets: Mapping[str, LevelTarget]

    def fit(self, weights: Tensors, fixed: Formats, curvature: Tensors) -> dict[str, TensorFormat]:  # noqa: ARG002 - least squares
        """Return formats with grids; masks that are fixed stay."""
        formats = {}
        for name, target in self.targets.items():
            mask = fixed[name].mask if name in fixed else None
            scale = fit_scale(weights[name].detach(), mask, target)
            formats[name] = TensorFormat(mask, Grid(target.levels, scale, 0, target.axis))
        return formats


def fit_scale(weight: Tensor, mask: Tensor | None, target: LevelTarget) -> Tensor:
    """Return the least-squares scale of ``weight`` on ``target``: float32 ``[]`` or ``[C]``.

    It is exact in float16, so that a file can hold it in 16 bits, unless it is outside of float16's normal range.
    Channels that keep nothing get the mean scale of the others; it is never used.
    """
    values, lengths = _by_channel(weight, mask, target.axis)
    if target.levels == (-1, 1):
        best = _sums(values.abs(), lengths) / lengths.clamp_min(1)
    else:
        levels = torch.tensor(target.levels, dtype=values.dtype, device=values.device)
        best, _ = _alternate(values, lengths, levels, _best_start(*_thinned(values, lengths), levels))
    alive = lengths > 0
    if bool(alive.any()) and not bool(alive.all()):
        best = torch.where(alive, best, best[alive].mean())
    best = best.clamp_min(TINIEST)
    half = best.to(torch.float16).to(torch.float32)
    normal = (half >= torch.finfo(torch.float16).tiny) & torch.isfinite(half)
    exact = torch.where(normal, half, best)
    return exact if target.axis is not None else exact[0]


def _best_start(values: Tensor, lengths: Tensor, levels: Tensor) -> Tensor:
    """Return per channel the scale ``[C]`` that alternation reaches with the least error from any start."""
    top = levels.abs().max()
    largest = torch.segment_reduce(values.abs(), "max", lengths=lengths, initial=0.0).clamp_min(TINIEST)
    best, least = largest / top, torch.full_like(largest, float("inf"))
    for start in STARTS:
        scale, error = _alternate(values, lengths, levels, largest * start / top)
        better = error < least
        best, least = torch.where(better, scale, best), torch.where(better, error, least)
    return best


def _thinned(values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return every n-th value, and how many each channel has of them: enough to choose a start by."""
    step = max(1, values.numel() // max(ENOUGH, ENOUGH_PER_CHANNEL * len(lengths)))
    channel = torch.arange(len(lengths), device=values.device).repeat_interleave(lengths)[::step]
    return values[::step].contiguous(), torch.bincount(channel, minlength=len(lengths))


def _by_channel(weight: Tensor, mask: Tensor | None, axis: int | None) -> tuple[Tensor, Tensor]:
    """Return the kept values ``[K]``, sorted by channel, and how many each channel has ``[C]``."""
    rows = weight.movedim(axis, 0).flatten(1) if axis is not None else weight.reshape(1, -1)
    if mask is None:
        return rows.reshape(-1), torch.full((rows.shape[0],), rows.shape[1], device=rows.device)
    kept = mask.movedim(axis, 0).flatten(1) if axis is not None else mask.reshape(1, -1)
    return rows[kept], kept.sum(1)


def _alternate(values: Tensor, lengths: Tensor, levels: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scale ``[C]`` after alternating least squares from ``scale``, and its squared error ``[C]``."""
    middles = (levels[1:] + levels[:-1]) / 2
    code = torch.zeros_like(values)
    for _ in range(ITERATIONS):
        code = levels[torch.bucketize(values / scale.repeat_interleave(lengths), middles)]
        norm, product = _sums(code.square(), lengths), _sums(values * code, lengths)
        previous, scale = scale, torch.where((norm > 0) & (product > 0), product / norm.clamp_min(1), scale)
        if torch.equal(previous, scale):
            break
    return scale, _sums((values - scale.repeat_interleave(lengths) * code).square(), lengths)


def _sums(values: Tensor, lengths: Tensor) -> Tensor:
    return torch.segment_reduce(values, "sum", lengths=lengths, initial=0.0)


def levels_for(bits: int, pruned: bool) -> tuple[int, ...]:
    """Return the integer levels of a uniform grid of ``bits`` bits.

    A pruned tensor has its zeros in the mask, so that up to 4 bits no code is spent on zero: +-1 .. +-2^(bits-1), as in
    ADMM-NN. A dense tensor of 2 bits takes +-1, +-3 (equal steps, no zero); from 3 bits on, the symmetric integers.
    """
    if pruned:
        largest = 2 ** (bits - 1) if bits <= 4 else 2 ** (bits - 1) - 1
        return tuple(level for level in range(-largest, largest + 1) if level != 0)
    if bits == 2:
        return (-3, -1, 1, 3)
    largest = 2 ** (bits - 1) - 1
    return tuple(range(-largest, largest + 1))
