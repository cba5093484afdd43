"""Constants that a layer reads, added to its bias instead."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from toolchain.channels.groups import Channels
from toolchain.channels.rules.common import integer, is_given
from toolchain.channels.space import Axis, Sum
from toolchain.channels.steady import Arrays
from toolchain.graph import Node


@dataclass(frozen=True)
class Fold:
    """A bias that can take over what a layer makes of constant channels.

    Attributes:
        channels: their numbers.
        bias: initializer that only this layer has.
        weight: that reads them.
        axis: the dimension of ``weight`` that runs along them.
        numbers: of the channels along it.
        constants: along it; NaN where it is none.
        factor: what the products are multiplied by.
    """

    channels: np.ndarray
    bias: str
    weight: str
    axis: int
    numbers: np.ndarray
    constants: np.ndarray
    factor: float

    def add(self, arrays: Arrays, lost: np.ndarray) -> np.ndarray:
        """Return the bias with what the layer makes of those of its channels that are among ``lost``."""
        taken = np.isin(self.numbers, np.intersect1d(self.channels, lost))
        weights = np.moveaxis(arrays[self.weight], self.axis, -1).astype(np.float64)[..., taken]
        made = self.factor * (weights @ self.constants[taken])  # [outputs, kernel positions..]
        bias = arrays[self.bias]
        total = made.reshape(made.shape[0], -1).sum(axis=1).reshape(bias.shape)
        folded: np.ndarray = (bias + total).astype(bias.dtype)
        return folded


def find_fold(
    channels: Channels, total: Sum, arrays: Arrays, steady: Mapping[Axis, np.ndarray], heard: np.ndarray
) -> Fold | None:
    """Return how a sum does without constant channels among those ``heard``; None where it cannot."""
    node = total.node
    read = _read(node)
    if read is None or read not in total.factors or not is_given(node, 2):
        return None
    weight, bias = node.inputs[1], node.inputs[2]
    if weight not in arrays or bias not in arrays or not _is_own(channels, bias, arrays[weight], node):
        return None
    numbers, constants = channels.numbers[read], steady[read]
    found = np.setdiff1d(np.intersect1d(heard, numbers), numbers[np.isnan(constants)])
    if not found.size:
        return None
    axis = next(place[1] for place in total.factors if place[0] == weight)
    factor = node.attributes.get("alpha", 1.0)
    return Fold(found, bias, weight, axis, numbers, constants, factor if isinstance(factor, float) else 1.0)


def _read(node: Node) -> Axis | None:
    """Return the dimension of channels that a node reads in such a way that constants of it make constants."""
    if node.domain:
        return None
    if node.op == "Gemm" and not integer(node, "transA", 0) and node.attributes.get("beta", 1.0) == 1.0:
        return node.inputs[0], 1
    pads = node.attributes.get("pads")
    padded = node.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or (
        isinstance(pads, list) and any(pads)
    )
    # At the border a padded convolution reads zeros in place of the constant.
    return (node.inputs[0], 1) if node.op == "Conv" and integer(node, "group", 1) == 1 and not padded else None


def _is_own(channels: Channels, bias: str, weight: np.ndarray, node: Node) -> bool:
    """Return whether a bias holds a number per output, and nothing but this node reads it."""
    graph, array = channels.trace.graph, channels.trace.graph.initializers
    outputs = weight.shape[0] if node.op == "Conv" or integer(node, "transB", 0) else weight.shape[1]
    uses = graph.consumers()[bias]
    is_result = any(value.name == bias for value in graph.outputs)
    return len(uses) == 1 and not is_result and array.size(bias) == outputs == array.shape(bias)[-1]
