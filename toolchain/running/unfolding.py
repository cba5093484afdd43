"""Convolutions get back the BatchNormalization that exporters fold into them, for as long as they train.

Exporters fold it because inference does without. A deep network whose weights change as much as compression changes
them hardly trains without: steps must be small, and nothing makes up for what pruning takes from every layer's outputs.
So convolutions are lent one that changes nothing at first: its statistics are those of the convolution's own outputs,
and its scale and shift undo them. ``refolding`` takes it away at the end.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor

from passes.normalization import channel_moments
from toolchain.graph import Graph, Node, load_graph
from toolchain.graph.constants import add_initializers
from toolchain.graph.flatten import flatten
from toolchain.graph.names import take_name
from toolchain.module import OnnxModule

# Fewer layers train well as they are.
FEWEST = 6
EPSILON = 1e-5
OLDEST_OPSET = 9  # before it BatchNormalization has other attributes
NORMALIZATIONS = ("BatchNormalization", "InstanceNormalization", "GroupNormalization", "LayerNormalization")


def bare_convolutions(graph: Graph) -> list[Node]:
    """Return the convolutions that no normalization follows and that could take one in again.

    Their weight and bias must be float32 constants of their own. There are none where the model is too large to be
    rewritten, and where they are too few to gain.
    """
    if graph.is_mapped or graph.opset < OLDEST_OPSET:
        return []
    consumers, results = graph.consumers(), {value.name for value in graph.outputs}
    known = graph.initializers

    def is_bare(node: Node) -> bool:
        constants = [name for name in node.inputs[1:] if name]
        own = all(name in known and len(consumers[name]) == 1 for name in constants)
        readers = [reader.op for reader, _ in consumers.get(node.outputs[0], [])]
        return (
            own
            and all(known.dtype(name) == np.float32 for name in constants)
            and node.outputs[0] not in results
            and not set(NORMALIZATIONS).intersection(readers)
        )

    found = [node for node in graph.nodes if node.op == "Conv" and not node.domain and is_bare(node)]
    return found if len(found) >= FEWEST else []


@torch.no_grad()
def unfold(
    model: OnnxModule, convolutions: Sequence[Node], batches: Iterable[Mapping[str, Tensor]]
) -> tuple[Graph, tuple[str, ...]]:
    """Return the model's graph with a normalization behind the convolutions, and the names of these nodes.

    The new graph computes what the model computes, up to the rounding of floats.

    Args:
        model: in evaluation mode, with the values that its graph has.
        convolutions: of its graph, as ``bare_convolutions`` finds them.
        batches: inputs that are like those of training; one at least.
    """
    moments = channel_moments(model, [node.outputs[0] for node in convolutions], batches)
    flat = flatten(model.graph)
    proto = onnx.ModelProto()
    proto.CopyFrom(flat.proto)
    taken = {name for node in flat.walk() for name in (node.name, *node.inputs, *node.outputs)}
    nodes, lent = [], []
    names = {value: node.name for node in flat.nodes for value in node.outputs if value}
    for node in proto.graph.node:
        node.name = next((names[value] for value in node.output if value in names), node.name)  # else by position
        nodes.append(node)
        if node.op_type == "Conv" and node.output[0] in moments:
            value = node.output[0]
            node.output[0] = take_name(f"{value}/raw", taken)
            constants = _constants(value, moments[value], taken)
            inputs = [node.output[0], *(tensor.name for tensor in constants)]
            lent.append(take_name(f"{value}/normalization", taken))
            nodes.append(helper.make_node("BatchNormalization", inputs, [value], name=lent[-1], epsilon=EPSILON))
            add_initializers(proto, constants)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return replace(load_graph(proto), path=model.graph.path), tuple(lent)


def _constants(value: str, moments: tuple[Tensor, Tensor], taken: set[str]) -> list[onnx.TensorProto]:
    """Return scale, shift, mean and variance of a normalization that changes nothing."""
    mean, variance = (moment.cpu().numpy() for moment in moments)
    arrays = {"scale": np.sqrt(variance + EPSILON), "shift": mean, "mean": mean, "variance": variance}
    return [
        numpy_helper.from_array(array.astype(np.float32), take_name(f"{value}/{name}", taken))
        for name, array in arrays.items()
    ]
