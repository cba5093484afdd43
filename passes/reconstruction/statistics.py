"""Streams the inputs of layers, of the original and of the compressed model, into what a layer's problem needs."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from passes.reconstruction.layers import Layer, input_rows, output_rows
from toolchain.errors import DataError
from toolchain.graph import Node
from toolchain.module import OnnxModule

# Returns the calibration inputs anew: a tensor per graph input, some samples at a time.
Samples = Callable[[], Iterable[tuple[int, Mapping[str, Tensor]]]]

DAMPING = 0.01  # of the mean curvature, added to every one: what the samples say little of stays as it was
DAMPINGS = 4  # times that it is tried, each ten times the one before
TINIEST_CURVATURE = 1e-30  # below which inputs count as constant: what float32 has beside it has lost its digits
MOST_ROWS = 2**15  # of each layer: more hardly change a covariance, and an image has thousands
LEAST_GAIN = 0.05  # of the largest of a normalization, that a layer can make up for a shortcut's loss through


@dataclass(eq=False)
class Statistics:
    """Sums over the rows seen so far, of the original's inputs x and the compressed model's y, each less an offset.

    Memory depends on the layer alone, not on the number of samples.

    Attributes:
        offset_x: ``[S, 1, K]``, about the mean, so that squares lose no digits; 0 where the mean is to count.
        offset_y: likewise, of y: rounding may move a mean by far more than the values differ.
        x: sum of the original's rows, ``[S, K]``.
        y: of the compressed model's.
        xy: sum of products of both, ``[S, K, K]``.
        yy: of the compressed model's.
        r: sum of what a shortcut lost, in units of the layer's outputs, ``[S, N]``.
        ry: sum of products of that and the compressed model's rows, ``[S, N, K]``.
        count: rows.
    """

    offset_x: Tensor
    offset_y: Tensor
    x: Tensor
    y: Tensor
    xy: Tensor
    yy: Tensor
    r: Tensor
    ry: Tensor
    count: int = 0

    @classmethod
    def begin(cls, original: Tensor, compressed: Tensor, outputs: int, centered: bool) -> "Statistics":
        """Return empty sums for rows like these, ``[S, rows, K]``, that lead to so many ``outputs`` each."""
        stack, _, columns = original.shape
        none = original.new_zeros(stack, 1, columns)
        x, y = (item.mean(1, keepdim=True) if centered else none for item in (original, compressed))
        return cls(
            offset_x=x,
            offset_y=y,
            x=original.new_zeros(stack, columns),
            y=original.new_zeros(stack, columns),
            xy=original.new_zeros(stack, columns, columns),
            yy=original.new_zeros(stack, columns, columns),
            r=original.new_zeros(stack, outputs),
            ry=original.new_zeros(stack, outputs, columns),
        )

    def add(self, original: Tensor, compressed: Tensor, lost: Tensor | None) -> None:
        """Take in the same rows of both, ``[S, rows, K]``, and what the shortcut lost there, ``[S, rows, N]``."""
        x, y = original - self.offset_x, compressed - self.offset_y
        self.x += x.sum(1)
        self.y += y.sum(1)
        self.xy.baddbmm_(x.mT, y)
        self.yy.baddbmm_(y.mT, y)
        self.count += x.shape[1]
        if lost is not None:
            self.r += lost.sum(1)
            self.ry.baddbmm_(lost.mT, y)

    def means(self) -> tuple[Tensor, Tensor]:
        """Return the mean rows of the original and of the compressed model, ``[S, K]``."""
        return self.x / self.count + self.offset_x[:, 0], self.y / self.count + self.offset_y[:, 0]

    def problem(self, weights: Tensor, centered: bool) -> tuple[Tensor, Tensor]:
        """Return target ``[S, N, K]`` and covariance ``[S, K, K]`` of the rows ``weights`` of the original.

        The target T minimises ``|W x + r - T y|^2 + d |W - T|^2`` over the samples, with r what a shortcut lost and d
        the damping; where ``centered`` everything less its mean.
        """
        covariance, cross, lost = self.yy / self.count, self.xy / self.count, self.ry / self.count
        if centered:
            x, y, r = self.x / self.count, self.y / self.count, self.r / self.count
            covariance -= y[:, :, None] * y[:, None]
            cross -= x[:, :, None] * y[:, None]
            lost -= r[:, :, None] * y[:, None]
        covariance, factor, damping, unfit = _definite(covariance)
        goal = weights @ cross + lost + damping[:, None, None] * weights
        goal = torch.where(unfit[:, None, None], weights, goal)
        return torch.cholesky_solve(goal.mT, factor).mT, covariance


def _definite(covariance: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the damped covariance ``[S, K, K]``, its Cholesky factor, the damping ``[S]``, and which ones are unfit.

    Where rounding has made a covariance indefinite, it is damped more; where no damping helps, as its sums left the
    range of float32, every weight counts alike, and it is rounded by itself.
    """
    mean = covariance.diagonal(dim1=1, dim2=2).mean(1)
    damping = torch.where(mean > TINIEST_CURVATURE, DAMPING * mean, 1.0)
    identity = torch.eye(covariance.shape[1], device=covariance.device)
    for _ in range(DAMPINGS):
        damped = covariance + damping[:, None, None] * identity
        factor, info = torch.linalg.cholesky_ex(damped)
        unfit = (info != 0) | ~torch.isfinite(factor).flatten(1).all(1)
        if not bool(unfit.any()):
            break
        damping = torch.where(unfit, 10 * damping, damping)
    damped = torch.where(unfit[:, None, None], identity, damped)
    return damped, torch.where(unfit[:, None, None], identity, factor), damping, unfit


@dataclass(frozen=True)
class Source:
    """What layers' inputs are taken from.

    Attributes:
        samples: returns the calibration inputs anew, some at a time, each time with their number.
        count: how many samples there are.
        seconds: that all goes through them may take together; each takes one batch in any case.
        tell: hears which part is done, 0..1.
    """

    samples: Samples
    count: int
    seconds: float = math.inf
    tell: Callable[[float], object] = float


def collect(
    original: OnnxModule, compressed: OnnxModule, layers: Sequence[Layer], source: Source
) -> tuple[dict[str, Statistics], int]:
    """Return the statistics of every layer's inputs, by weight name, of those whose inputs are finite numbers.

    Also returns how many samples there was time for.

    Args:
        original: before anything was rounded.
        compressed: the same graph, in part on its grids.
        layers: of that graph.
        source: what both run on.

    Raises:
        DataError: an input of the model is NaN or infinite.
    """
    read = [name for layer in layers for name in (layer.node.inputs[0], layer.shortcut) if name]
    names = list(dict.fromkeys(read))
    most = max(1, MOST_ROWS // max(1, source.count))
    found: dict[str, Statistics] = {}
    lost: set[str] = set()
    until = time.monotonic() + source.seconds
    seen = 0
    for count, inputs in source.samples():
        seen += count
        _check(inputs)
        before, after = original.run(inputs, names), compressed.run(inputs, names)
        lost |= {name for name in names if not bool(torch.isfinite(before[name]).all())}
        after = {name: torch.where(torch.isfinite(value), value, before[name]) for name, value in after.items()}
        for layer in layers:
            value = layer.node.inputs[0]
            if value in lost or layer.shortcut in lost:
                continue
            rows, others = (input_rows(layer, values[value], most) for values in (before, after))
            if layer.weight not in found:
                found[layer.weight] = Statistics.begin(rows, others, layer.layout.stack[1], layer.centered)
            found[layer.weight].add(rows, others, _lost(compressed, layer, (before, after), rows.shape, most))
        if time.monotonic() > until:
            break
    lost_layers = {layer.weight for layer in layers if {layer.node.inputs[0], layer.shortcut} & lost}
    return {name: statistics for name, statistics in found.items() if name not in lost_layers}, seen


def _check(inputs: Mapping[str, Tensor]) -> None:
    for name, value in inputs.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise DataError(
                f"input {name!r} of the model is NaN or infinite in the calibration data",
                hint="check the data, and --scale, --mean and --std against what the model was trained on",
            )


def _lost(
    module: OnnxModule, layer: Layer, values: tuple[Mapping[str, Tensor], ...], rows: Sequence[int], most: int
) -> Tensor | None:
    """Return what the shortcut beside a layer lost, ``[S, rows, N]``, in units of the layer's outputs.

    The layer's outputs are to make up for it too, as far as they can. None where there is no shortcut of that shape.
    """
    if not layer.shortcut:
        return None
    before, after = (item[layer.shortcut] for item in values)
    channels = layer.layout.shape[layer.layout.outputs]
    axis = 1 if layer.layout.kernel else before.ndim - 1
    if before.ndim < 2 or before.shape[axis] != channels:
        return None
    lost = output_rows(layer, before - after, most)
    if lost.shape[:2] != tuple(rows[:2]):
        return None  # the sum broadcasts
    if layer.normalization is None:
        return lost / layer.factor
    return lost * _inverse_gain(module, layer.normalization).reshape(len(lost), 1, -1)


def _inverse_gain(module: OnnxModule, node: Node) -> Tensor:
    """Return ``[C]`` by what outputs of a normalization become its inputs; 0 where it lets hardly anything by."""
    scale, variance = (module.tensor(node.inputs[place]).detach() for place in (1, 4))
    epsilon = node.attributes.get("epsilon", 1e-5)
    gain = scale / (variance + (epsilon if isinstance(epsilon, float) else 1e-5)).sqrt()
    return torch.where(gain.abs() > LEAST_GAIN * gain.abs().max(), 1 / gain, 0.0)
