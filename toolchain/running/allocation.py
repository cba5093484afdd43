"""What keeping one weight of each tensor costs, in whichever unit tensors are to be compared by."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch

from passes.base import Tensors
from passes.constraints import Budget, TopK
from toolchain.export import time_dense
from toolchain.formats import TensorFormat
from toolchain.graph import Graph, Node, find_weights
from toolchain.graph.layout import Layout, layout_of
from toolchain.module import OnnxModule
from toolchain.structures import bounds

FLOAT_BITS = 32
# How much longer a product of gathered channels is taken to last than a dense one. ResNet-50's shape at 4x is 2.66
# times as fast with 1/4.1 of its products and 3.05 times with 1/5.2 of them, so it is 1.5 to 1.7 there; not all of that
# is asked for, since early layers pay for it with accuracy (VGG-16 at 4x: benchmarks/results/cifar10.md).
GATHERING = 1.25
NEAR = 0.02  # of the part of a cost that is for products, at which the search for it ends


def weight_costs(
    module: OnnxModule, sample: Mapping[str, np.ndarray], unit: Literal["flops", "ms"], threads: int
) -> dict[str, float]:
    """Return what one weight of every prunable tensor costs when the model runs on ``sample``.

    Args:
        module: in evaluation mode.
        sample: one batch of model inputs.
        unit: ``"flops"`` is how often the weight is multiplied, ``"ms"`` the time that its layer takes in ONNX Runtime
            per weight.
        threads: of the timed sessions.
    """
    uses = count_uses(module, sample)
    if unit == "flops":
        return uses
    sizes = {name: math.prod(module.graph.initializers.shape(name)) for name in uses}
    times = time_dense(module, uses, sample, threads)
    # What cannot be timed alone, such as the body of a loop, is taken to be as fast per product as the rest.
    counted = sum(uses[name] * sizes[name] for name in times)
    rate = sum(times.values()) / counted if counted else 1.0
    return {name: times.get(name, uses[name] * sizes[name] * rate) / sizes[name] for name in uses}


def count_uses(module: OnnxModule, sample: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return how many products each prunable weight takes part in, at least one, in one run on ``sample``.

    Shapes inside the branches and bodies of ``If``, ``Loop`` and ``Scan`` are not known here: weights that only they
    use are taken to be used as often as the others are on average.
    """
    graph = module.graph
    users = {w.name: graph.consumers()[w.name] for w in find_weights(graph) if not w.reason}
    seen = set(graph.nodes)
    wanted = {_measure_at(node) for pairs in users.values() for node, _ in pairs if node in seen}
    with torch.no_grad():
        shapes = {name: tuple(value.shape) for name, value in module.run(sample, sorted(wanted)).items()}
    counted = {
        name: max(1.0, sum(_uses(graph, node, position, shapes) for node, position in pairs if node in seen))
        for name, pairs in users.items()
        if any(node in seen for node, _ in pairs)
    }
    sizes = {name: math.prod(graph.initializers.shape(name)) for name in counted}
    mean = sum(counted[name] * size for name, size in sizes.items()) / max(1, sum(sizes.values()))
    return {name: counted.get(name, max(1.0, mean)) for name in users}


_BY_INPUT = ("ConvTranspose", "GRU", "LSTM", "RNN")  # each input value meets every weight of its channel once


def _measure_at(node: Node) -> str:
    return node.inputs[0] if node.op in _BY_INPUT else node.outputs[0]


def _uses(graph: Graph, node: Node, position: int, shapes: Mapping[str, tuple[int, ...]]) -> float:
    """Return how many values of the node each weight of an output, or of an input, is multiplied for."""
    shape = shapes[_measure_at(node)]
    if node.op in _BY_INPUT:
        return math.prod(shape) / shape[1 if node.op == "ConvTranspose" else -1]
    layout = layout_of(node, position, graph.initializers.shape(node.inputs[position]))
    return math.prod(shape) / math.prod(layout.stack[:2])


def bit_costs(
    weights: Tensors, budgets: Sequence[Budget], layouts: Mapping[str, Layout], bits: Mapping[str, int]
) -> dict[str, float]:
    """Return how many bits of the file one more kept weight takes, by tensor.

    Those of its value, and those of its position: with a density d, ``log2((1 - d) / d)``, the derivative of the
    entropy, which packed tensors come near (benchmarks/encodings.py). Weights of a structure share one position. The
    density is the one that each tensor has where parameters are the cost.

    Args:
        weights: all that the budgets name.
        budgets: which are to be met.
        layouts: by tensor name.
        bits: of a value, by tensor name; others are float.
    """
    fitted = TopK(tuple(budgets), "lamp", layouts).fit(weights, {}, {})
    costs = {}
    for budget in budgets:
        for name in budget.names:
            density = _count(fitted[name], weights[name].numel()) / weights[name].numel()
            unit = bounds(budget.structure, layouts[name])[0] if name in layouts else 1
            position = math.log2(max(1.0, (1 - density) / density)) / unit
            costs[name] = bits.get(name, FLOAT_BITS) + position
    return costs


def balanced_costs(
    weights: Tensors, budgets: Sequence[Budget], layouts: Mapping[str, Layout], uses: Mapping[str, float]
) -> dict[str, float]:
    """Return what a kept weight costs where products are to become fewer by ``GATHERING`` times as much as weights.

    Counted by weights alone, pruned layers are the late ones, which hold most weights and take little time; counted by
    products alone, late layers keep weights that do nothing while early ones lose theirs. So a weight costs a part for
    itself and a part for its products, and the part for these is the least that brings them down as far as asked; where
    nothing does, it costs its products alone. A tensor that is used seldom may keep much for the others to come down.
    As with ``bit_costs``, by what the weights are before training.

    Args:
        weights: all that the budgets name.
        budgets: which are to be met, each by itself.
        layouts: by tensor name.
        uses: how many products each weight takes part in, by tensor name.
    """
    return {name: cost for budget in budgets for name, cost in _balanced_costs(weights, budget, layouts, uses).items()}


def _balanced_costs(
    weights: Tensors, budget: Budget, layouts: Mapping[str, Layout], uses: Mapping[str, float]
) -> dict[str, float]:
    sizes = {name: weights[name].numel() for name in budget.names}
    mean = sum(uses[name] * size for name, size in sizes.items()) / sum(sizes.values())

    def costs(part: float) -> dict[str, float]:
        return {name: 1 - part + part * uses[name] / mean for name in sizes}

    def suffices(part: float) -> bool:
        fitted = TopK((budget,), "lamp", layouts, costs(part)).fit(weights, {}, {})
        left = sum(uses[name] * _count(fitted[name], size) for name, size in sizes.items())
        return left * GATHERING <= mean * budget.kept

    if suffices(0.0):
        return costs(0.0)
    too_low, enough = 0.0, 1.0  # where no part suffices the search ends beside 1: as few products as there can be
    while enough - too_low > NEAR:
        part = (too_low + enough) / 2
        too_low, enough = (too_low, part) if suffices(part) else (part, enough)
    return costs(enough)


def _count(fitted: TensorFormat, size: int) -> int:
    """Return how many of a tensor's weights a format keeps."""
    return size if fitted.mask is None else int(fitted.mask.sum())
