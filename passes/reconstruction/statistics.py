"""Streams the inputs of layers, of the original and of the compressed model, into what a layer's problem needs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from passes.reconstruction.layers import Layer, input_rows
from toolchain.errors import DataError
from toolchain.module import OnnxModule

# Returns the calibration inputs anew: a tensor per graph input, some samples at a time.
Samples = Callable[[], Iterable[Mapping[str, Tensor]]]

DAMPING = 0.01  # of the mean curvature, added to every one: what the samples say little of stays as it was
MOST_ROWS = 2**15  # of each layer: more hardly change a covariance, and an image has thousands


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
        count: rows.
    """

    offset: Tensor
    x: Tensor
    y: Tensor
    xy: Tensor
    yy: Tensor
    count: int = 0

    @classmethod
    def begin(cls, rows: Tensor, centered: bool) -> "Statistics":
        """Return empty sums for rows like these, ``[S, rows, K]``."""
        stack, _, columns = rows.shape
        offset = rows.mean(1, keepdim=True) if centered else rows.new_zeros(stack, 1, columns)
        vector, matrix = rows.new_zeros(stack, columns), rows.new_zeros(stack, columns, columns)
        return cls(offset, vector, vector.clone(), matrix, matrix.clone())

    def add(self, original: Tensor, compressed: Tensor) -> None:
        """Take in the same rows of both, ``[S, rows, K]``."""
        x, y = original - self.offset, compressed - self.offset
        self.x += x.sum(1)
        self.y += y.sum(1)
        self.xy.baddbmm_(x.mT, y)
        self.yy.baddbmm_(y.mT, y)
        self.count += x.shape[1]

    def means(self) -> tuple[Tensor, Tensor]:
        """Return the mean rows of the original and of the compressed model, ``[S, K]``."""
        return self.x / self.count + self.offset[:, 0], self.y / self.count + self.offset[:, 0]

    def problem(self, weights: Tensor, centered: bool) -> tuple[Tensor, Tensor]:
        """Return target ``[S, N, K]`` and covariance ``[S, K, K]`` of the rows ``weights`` of the original.

        The target T minimises ``|W x - T y|^2 + d |W - T|^2`` over the samples, with d the damping; where ``centered``
        the rows less their means.
        """
        covariance, cross = self.yy / self.count, self.xy / self.count
        if centered:
            x, y = self.x / self.count, self.y / self.count
            covariance -= y[:, :, None] * y[:, None]
            cross -= x[:, :, None] * y[:, None]
        diagonal = covariance.diagonal(dim1=1, dim2=2)
        mean = diagonal.mean(1, keepdim=True)
        damping = torch.where(mean > 0, DAMPING * mean, 1.0)
        diagonal += damping
        goal = weights @ cross + damping[:, :, None] * weights
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
    names = list(dict.fromkeys(layer.node.inputs[0] for layer in layers))
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
                found[layer.weight] = Statistics.begin(rows, layer.centered)
            found[layer.weight].add(rows, others)
    return found
