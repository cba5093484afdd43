"""Level constraints: every kept weight is a scale times a small integer."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from passes.base import Constraint, Formats, Tensors
from passes.constraints.segments import Segments, gather
from toolchain.amounts import QuantSpec
from toolchain.formats import Grid, TensorFormat, index_bits

ITERATIONS = 12  # alternations of scale and levels; the error hardly changes after eight

# Tried for the scale that the alternation starts from, as fractions of the range of a segment. Alternating from the
# best of them leaves 0.979 to 1.006 times the error that alternating from each of 12 does, in a seventh of the time
# (grids of 2 to 8 bits, weights of LeNet-5 and ResNet-20, dense and 80 % pruned; means over tensors, 1.036 at worst).
STARTS = tuple(part / 40 for part in range(6, 41))

CHUNK = 1 << 22  # values that are sorted at a time

FINEST_LEVEL = 127  # the largest of 8 bits

TINIEST = 1e-30  # scales are positive, also of a channel of zeros

BINARY, TERNARY = (-1, 1), (-1, 0, 1)


@dataclass(frozen=True)
class LevelTarget:
    """The grids that a tensor may lie on.

    Attributes:
        levels: that kept weights may take.
        axis: the dimension with a scale per index; None for one scale in all.
        block_size: how many weights at an index of ``axis`` share a scale; 0 for all of them.
        shifted: whether any of the levels may stand for zero, else 0 does.
    """

    levels: tuple[int, ...]
    axis: int | None
    block_size: int = 0
    shifted: bool = False

    @property
    def bits(self) -> int:
        """Bits that one level index needs."""
        return index_bits(self.levels)


@dataclass(frozen=True)
class Levels(Constraint):
    """The set ``scale * (level - zero_point)`` on the support that is fixed already.

    The projection alternates ``level = nearest(v / scale)`` and ``scale = <v, level> / <level, level>`` (least squares)
    from the best of several starts (arXiv 1903.09769, section 4). Binary levels need no alternation: scale = mean |v|.
    Nor do ternary ones: of the i largest |v|, those that maximise (their sum)^2 / i are kept, at their mean.
    """

    targets: Mapping[str, LevelTarget]

    def fit(self, weights: Tensors, fixed: Formats, curvature: Tensors) -> dict[str, TensorFormat]:  # noqa: ARG002 - least squares
        """Return formats with grids; masks that are fixed stay."""
        formats = {}
        for name, target in self.targets.items():
            mask = fixed[name].mask if name in fixed else None
            formats[name] = TensorFormat(mask, fit_grid(weights[name].detach(), mask, target))
        return formats


def fit_grid(weight: Tensor, mask: Tensor | None, target: LevelTarget) -> Grid:
    """Return the least-squares grid of what ``mask`` keeps of ``weight``.

    Scales are exact in float16 where ``storable`` finds that precise enough. Channels that keep nothing get the mean
    scale of the others; it is never used.
    """
    segments = gather(weight, mask, target.axis, target.block_size)
    zero: Tensor | None = None
    if target.levels == BINARY:
        scale = segments.sums(segments.values.abs()) / segments.lengths.clamp_min(1)
    elif target.levels == TERNARY:
        scale = _ternary_scale(segments)
    else:
        levels = torch.tensor(target.levels, dtype=weight.dtype, device=weight.device)
        start, zero = _best_start(segments.thinned(), levels, target.shifted)
        scale = _alternate(segments, levels, start, zero)
    alive = segments.lengths > 0
    if bool(alive.any()) and not bool(alive.all()):
        scale = torch.where(alive, scale, scale[alive].mean())
    scale = storable(scale.clamp_min(TINIEST), target.levels).reshape(segments.shape)
    zeros: int | Tensor = 0 if zero is None else zero.to(torch.int32).reshape(segments.shape)
    return Grid(target.levels, scale, zeros, target.axis, target.block_size)


def storable(scale: Tensor, levels: tuple[int, ...]) -> Tensor:
    """Return positive scales rounded to float16, in which a file can hold them, where that is precise enough.

    The largest level may move by as much of a step as that of 8 bits does in float16's normal range: the fewer the
    levels, the further a scale may lie below that range.
    """
    half = scale.to(torch.float16).to(torch.float32)
    allowed = FINEST_LEVEL * torch.finfo(torch.float16).eps / 2 / max(map(abs, levels))
    return torch.where((half - scale).abs() <= allowed * scale, half, scale)


def _ternary_scale(segments: Segments) -> Tensor:
    """Return per segment ``[S]`` the a of the nearest values of {-a, 0, a}."""
    return torch.cat([_ternary_scale_of(part) for part in segments.parts(CHUNK)])


def _ternary_scale_of(segments: Segments) -> Tensor:
    values, lengths = segments.values.abs(), segments.lengths
    owner = torch.arange(len(lengths), device=values.device).repeat_interleave(lengths)
    order = values.argsort(descending=True)
    order = order[owner[order].argsort(stable=True)]  # by segment, the largest first
    starts = lengths.cumsum(0) - lengths
    total = torch.cat([values.new_zeros(1, dtype=torch.float64), values[order].double().cumsum(0)])
    kept = total[1:] - total[starts][owner]
    count = torch.arange(1, len(values) + 1, device=values.device) - starts[owner]
    worth = kept.square() / count
    best = torch.segment_reduce(worth, "max", lengths=lengths, initial=0.0)
    chosen = torch.where(worth == best[owner], kept / count, 0.0)
    return torch.segment_reduce(chosen, "max", lengths=lengths, initial=0.0).to(values.dtype)


def _best_start(segments: Segments, levels: Tensor, shifted: bool) -> tuple[Tensor, Tensor | None]:
    """Return per segment ``[S]`` the scale, and the zero point, of the start with the least error."""
    low = torch.segment_reduce(segments.values, "min", lengths=segments.lengths, initial=0.0).clamp_max(0)
    high = torch.segment_reduce(segments.values, "max", lengths=segments.lengths, initial=0.0).clamp_min(0)
    if shifted:
        full = ((high - low) / (levels[-1] - levels[0])).clamp_min(TINIEST)
        middle = levels[0] - (low / full).round()
        zeros: list[Tensor | None] = [(middle + step).clamp(levels[0], levels[-1]) for step in (0, -1, 1)]
    else:
        full, zeros = (torch.maximum(-low, high) / levels.abs().max()).clamp_min(TINIEST), [None]
    best, zero, least = full, zeros[0], torch.full_like(full, float("inf"))
    for tried in zeros:
        for start in STARTS:
            scale, error = _refit(segments, levels, full * start, tried)
            better = error < least
            best, least = torch.where(better, scale, best), torch.where(better, error, least)
            if zero is not None and tried is not None:
                zero = torch.where(better, tried, zero)
    return best, zero


def _refit(segments: Segments, levels: Tensor, scale: Tensor, zero: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the least-squares scale ``[S]`` of the levels nearest at ``scale``, and its squared error ``[S]``.

    The error of levels q at their own scale is ``|v|^2 - <v, q>^2 / |q|^2``; ``|v|^2`` is left out.
    """
    code = _nearest(segments, levels, scale, zero)
    norm, product = segments.sums(code.square()), segments.sums(segments.values * code)
    good = (norm > 0) & (product > 0)
    found = torch.where(good, product / norm.clamp_min(TINIEST), scale)
    return found, torch.where(good, -product.square() / norm.clamp_min(TINIEST), 0.0)


def _nearest(segments: Segments, levels: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    """Return the nearest level of every value, less the zero point: ``[K]``."""
    shift = 0.0 if zero is None else segments.spread(zero)
    position = segments.values / segments.spread(scale) + shift
    if len(levels) == levels[-1] - levels[0] + 1:  # all integers from the first to the last
        level = position.round_().clamp_(levels[0], levels[-1])
    else:
        level = levels[torch.bucketize(position, (levels[1:] + levels[:-1]) / 2)]
    return level - shift


def _alternate(segments: Segments, levels: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    """Return the scale ``[S]`` after alternating least squares from ``scale``."""
    for _ in range(ITERATIONS):
        previous = scale
        scale, _ = _refit(segments, levels, scale, zero)
        if torch.equal(previous, scale):
            break
    return scale


def level_target(spec: QuantSpec, pruned: bool, axis: int | None) -> LevelTarget:
    """Return the grids of a family for a tensor whose output channels run along ``axis``; a pruned one has a mask."""
    if spec.kind == "binary" or (spec.kind == "ternary" and pruned):  # a pruned tensor has its zeros in the mask
        levels: tuple[int, ...] = BINARY
    elif spec.kind == "ternary":
        levels = TERNARY
    elif spec.kind == "power":
        levels = powers_for(spec.bits, pruned)
    else:
        levels = tuple(range(2**spec.bits)) if spec.shifted else levels_for(spec.bits, pruned)
    return LevelTarget(levels, None if spec.granularity == "tensor" else axis, spec.block_size, spec.shifted)


def levels_for(bits: int, pruned: bool) -> tuple[int, ...]:
    """Return the integer levels of a symmetric uniform grid of ``bits`` bits.

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


def powers_for(bits: int, pruned: bool) -> tuple[int, ...]:
    """Return the levels of a power-of-two grid of 2 to 4 bits: +-1, +-2, +-4, ..., at most +-64, which int8 holds.

    From 3 bits on a dense tensor has 0 among them; a pruned one has its zeros in the mask.
    """
    count = 2 ** (bits - 1) - (bits > 2 and not pruned)
    powers = [2**power for power in range(min(count, 7))]
    middle = [] if pruned or bits == 2 else [0]
    return (*(-power for power in reversed(powers)), *middle, *powers)
