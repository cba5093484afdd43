"""Folds BatchNormalization into the convolutions before it, as exporters do."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from toolchain.export.normalized import affine_of, normalization_of
from toolchain.graph import Graph, Node, load_graph
from toolchain.module import OnnxModule


@torch.no_grad()
def refold(module: OnnxModule, names: Collection[str]) -> OnnxModule:
    """Return a module without some normalizations that computes what ``module`` does in evaluation mode.

    Args:
        module: its weights are floats, whose masks stay; ``unfolding`` made the nodes.
        names: of BatchNormalization nodes; those that are not there any more are passed over.
    """
    consumers = module.graph.consumers()
    pairs = [(node, normalization_of(module.graph, consumers, node)) for node in module.graph.nodes]
    folded = {conv.outputs[0]: (conv, node) for conv, node in pairs if node is not None and node.name in names}
    small = OnnxModule(_without(module.graph, folded)).to(module.device)
    small.train(module.training)
    before = {**module.weights(), **module.buffers_by_name()}
    for name, tensor in {**small.weights(), **small.buffers_by_name()}.items():
        if name in before:
            tensor.copy_(before[name])
    for conv, node in folded.values():
        affine = affine_of(module, node)
        weight, bias = small.tensor(conv.inputs[1]), small.tensor(_bias(module.graph, conv))
        factor, shift = (torch.from_numpy(array).to(weight.device) for array in (affine.factor, affine.shift))
        weight.copy_(weight.double() * factor.reshape(-1, *[1] * (weight.ndim - 1)))
        bias.copy_(bias.double() * factor + shift)
    small.formats.update(module.formats)
    return small


def _bias(graph: Graph, conv: Node) -> str:
    """Return the name of the bias of a convolution, or that of the one to come where it has none yet."""
    if len(conv.inputs) > 2 and conv.inputs[2]:
        return conv.inputs[2]
    name = f"{conv.inputs[1]}/bias"
    while name in graph.initializers:
        name += "_"
    return name


def _without(graph: Graph, folded: dict[str, tuple[Node, Node]]) -> Graph:
    """Return the graph in which the convolutions, by output, make what their normalizations made."""
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    gone = {node.outputs[0] for _, node in folded.values()}
    unused = {name for _, node in folded.values() for name in node.inputs[1:5]}
    nodes = [node for node in proto.graph.node if node.op_type != "BatchNormalization" or node.output[0] not in gone]
    for node in nodes:
        if node.output and node.output[0] in folded:
            conv, normalization = folded[node.output[0]]
            node.output[0] = normalization.outputs[0]
            bias = _bias(graph, conv)
            if bias not in node.input:
                zeros = np.zeros(graph.initializers.shape(conv.inputs[1])[0], np.float32)
                proto.graph.initializer.append(numpy_helper.from_array(zeros, bias))
                node.input[2:] = [bias]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    tensors = [tensor for tensor in proto.graph.initializer if tensor.name not in unused]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(tensors)
    return replace(load_graph(proto), path=graph.path)
