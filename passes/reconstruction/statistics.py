"""Streams the inputs of layers, of the original and of the compressed model, into what a layer's problem needs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from passes.reconstruction.layers import Layer, input_rows, output_rows
from toolchain.errors import DataError
from toolchain.graph import Node
from toolchain.module import OnnxModule

# Returns the calibration inputs anew: a tensor per graph input, some samples at a time.
Samples = Callable[[], Iterable[Mapping[str, Tensor]]]

DAMPING = 0.01  # of the mean curvature, added to every one: what the samples say little of stays as it was
MOST_ROWS = 2**15  # of each layer: more hardly change a covariance, and an image has thousands
LEAST_GAIN = 0.05  # of the largest of a normalization, that a layer can make up for a shortcut's loss through


@dataclass(eq=False)
class Statistics:
    """Sums over the rows seen so far, of the original's inputs x and the compressed model's y, both less an offset.

    Memory depends on the layer alone, not on the number of samples.

    Attributes:
        offset: ``[S, 1, K]``, about the mean, so that squares lose no digits; 0 where the mean is to count.
        x: sum of the original's rows, ``[S, K]``.
        y: of the compressed model's.
        xy: sum of products of both, ``[S, K, K]``.
        yy: of the compressed model's.
        r: sum of what a shortcut lost, in units of the layer's outputs, ``[S, N]``.
        ry: sum of products of that and the compressed model's rows, ``[S, N, K]``.
        count: rows.
    """

    offset: Tensor
    x: Tensor
    y: Tensor
    xy: Tensor
    yy: Tensor
    r: Tensor
    ry: Tensor
    count: int = 0

    @classmethod
    def begin(cls, rows: Tensor, outputs: int, centered: bool) -> "Statistics":
        """Return empty sums for rows like these, ``[S, rows, K]``, that lead to so many ``outputs`` each."""
        stack, _, columns = rows.shape
        offset = rows.mean(1, keepdim=True) if centered else rows.new_zeros(stack, 1, columns)
        vector, matrix = rows.new_zeros(stack, columns), rows.new_zeros(stack, columns, columns)
        lost = rows.new_zeros(stack, outputs)
        return cls(
            offset, vector, vector.clone(), matrix, matrix.clone(), lost, rows.new_zeros(stack, outputs, columns)
        )

    def add(self, original: Tensor, compressed: Tensor, lost: Tensor | None) -> None:
        """Take in the same rows of both, ``[S, rows, K]``, and what the shortcut lost there, ``[S, rows, N]``."""
        x, y = original - self.offset, compressed - self.offset
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
        return self.x / self.count + self.offset[:, 0], self.y / self.count + self.offset[:, 0]

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
        diagonal = covariance.diagonal(dim1=1, dim2=2)
        mean = diagonal.mean(1, keepdim=True)
        damping = torch.where(mean > 0, DAMPING * mean, 1.0)
        diagonal += damping
        goal = weights @ cross + lost + damping[:, :, None] * weights
        factor = torch.linalg.cholesky(covariance)
        return torch.cholesky_solve(goal.mT, factor).mT, covariance


def collect(
    original: OnnxModule, compressed: OnnxModule, layers: Sequence[Layer], samples: Samples, count: int
) -> dict[str, Statistics]:
    """Return the statistics of every layer's inputs, by weight name.

    Args:
        original: before anything was rounded.
        compressed: the same graph, in part on its grids.
        layers: of that graph.
        samples: what both run on.
        count: how many samples there are.

    Raises:
        DataError: an input is NaN or infinite.
    """
    read = [name for layer in layers for name in (layer.node.inputs[0], layer.shortcut) if name]
    names = list(dict.fromkeys(read))
    most = max(1, MOST_ROWS // max(1, count))
    found: dict[str, Statistics] = {}
    for inputs in samples():
        before, after = original.run(inputs, names), compressed.run(inputs, names)
        for layer in layers:
            value = layer.node.inputs[0]
            if not bool(torch.isfinite(before[value]).all()):
                raise DataError(
                    f"value {value!r} of the model is NaN or infinite on the calibration data",
                    hint="check --scale, --mean and --std against what the model was trained on",
                )
            rows, others = (input_rows(layer, values[value], most) for values in (before, after))
            if layer.weight not in found:
                found[layer.weight] = Statistics.begin(rows, layer.layout.stack[1], layer.centered)
            found[layer.weight].add(rows, others, _lost(compressed, layer, (before, after), rows.shape, most))
    return found


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
