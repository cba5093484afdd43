"""Folds BatchNormalization into the convolutions before it, as exporters do."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from toolchain.export.normalized import Affine, affine_of, normalization_of
from toolchain.formats import TensorFormat
from toolchain.graph import Graph, Node, load_graph
from toolchain.graph.constants import add_initializers
from toolchain.graph.names import take_name
from toolchain.module import OnnxModule


@dataclass(frozen=True, eq=False)
class _Fold:
    """A convolution, the normalization behind it, what that does, and the format of the weights that take it in."""

    conv: Node
    node: Node
    affine: Affine
    format: TensorFormat


@torch.no_grad()
def refold(module: OnnxModule, names: Collection[str]) -> OnnxModule:
    """Return a module without some normalizations that computes what ``module`` does in evaluation mode.

    Args:
        module: masks and levels of its weights stay, scales of grids take in the factors.
        names: of BatchNormalization nodes, as ``unfolding`` made them; those that are not there any more, and those
            whose factors a grid cannot take in, are passed over.
    """
    folds = [fold for fold in _folds(module) if fold.node.name in names]
    small = OnnxModule(_without(module.graph, folds)).to(module.device)
    small.train(module.training)
    before = {**module.weights(), **module.buffers_by_name()}
    for name, tensor in {**small.weights(), **small.buffers_by_name()}.items():
        if name in before:
            tensor.copy_(before[name])
    small.formats.update(module.formats)
    for fold in folds:
        name = fold.conv.inputs[1]
        weight, bias = small.tensor(name), small.tensor(_bias(module.graph, fold.conv))
        factor, shift = (torch.from_numpy(array).to(weight.device) for array in (fold.affine.factor, fold.affine.shift))
        weight.copy_(weight.double() * factor.reshape(-1, *[1] * (weight.ndim - 1)))
        bias.copy_(bias.double() * factor + shift)
        if name in small.formats:
            small.formats[name] = fold.format
            weight.copy_(fold.format.project(weight))  # the same levels: only the last bits of floats may differ
    return small


def _folds(module: OnnxModule) -> Iterator[_Fold]:
    """Yield every convolution that can take in the normalization behind it."""
    consumers = module.graph.consumers()
    for conv in module.graph.nodes:
        node = normalization_of(module.graph, consumers, conv)
        if node is not None:
            affine = affine_of(module, node)
            found = _scaled(module.formats.get(conv.inputs[1], TensorFormat()), torch.from_numpy(affine.factor))
            if found is not None:
                yield _Fold(conv, node, affine, found)


def _scaled(found: TensorFormat, factor: Tensor) -> TensorFormat | None:
    """Return the format of weights ``[C, ...]`` times a factor per channel, float64 ``[C]``; None where it has none.

    A grid takes factors in where it has a scale per channel, and negative ones where its levels are symmetric.
    """
    grid = found.grid
    if grid is None:
        return found
    scale = (grid.scale.double() * factor.abs().to(grid.scale.device)).to(torch.float32)
    zero, levels = grid.zero_point, set(grid.levels)
    symmetric = isinstance(zero, int) and {2 * zero - level for level in levels} == levels
    if grid.axis != 0 or grid.block_size or not bool((scale > 0).all()) or (bool((factor < 0).any()) and not symmetric):
        return None
    return replace(found, grid=replace(grid, scale=scale))


def _bias(graph: Graph, conv: Node) -> str:
    """Return the name of the bias of a convolution, or that of the one to come where it has none yet."""
    if len(conv.inputs) > 2 and conv.inputs[2]:
        return conv.inputs[2]
    taken = {name for node in graph.walk() for name in (*node.inputs, *node.outputs)}
    return take_name(f"{conv.inputs[1]}/bias", taken | set(graph.initializers) | {value.name for value in graph.inputs})


def _without(graph: Graph, folds: Sequence[_Fold]) -> Graph:
    """Return the graph in which the convolutions make what their normalizations made."""
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    by_output = {fold.conv.outputs[0]: fold for fold in folds}
    gone, unused = {fold.node.outputs[0] for fold in folds}, {name for fold in folds for name in fold.node.inputs[1:5]}
    nodes = [node for node in proto.graph.node if node.op_type != "BatchNormalization" or node.output[0] not in gone]
    for node in nodes:
        fold = by_output.get(node.output[0]) if node.output else None
        if fold is not None:
            node.output[0] = fold.node.outputs[0]
            bias = _bias(graph, fold.conv)
            if bias not in node.input:
                zeros = np.zeros(graph.initializers.shape(fold.conv.inputs[1])[0], np.float32)
                add_initializers(proto, [numpy_helper.from_array(zeros, bias)])
                node.input[2:] = [bias]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    tensors = [tensor for tensor in proto.graph.initializer if tensor.name not in unused]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(tensors)
    return replace(load_graph(proto), path=graph.path)
