"""Convolutions followed by a BatchNormalization, which an integer kernel takes in.

The factor of an output channel goes into its scale, its sign into the levels; the shift goes into the bias. So the
integers stay what they were, and the file computes what the two nodes compute.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np

from toolchain.export.weights import weight_array
from toolchain.graph import Graph, Node
from toolchain.module import OnnxModule

Consumers = Mapping[str, list[tuple[Node, int]]]


@dataclass(frozen=True, eq=False)
class Affine:
    """What a normalization does to every channel: ``factor * x + shift``, float64 ``[channels]`` each."""

    factor: np.ndarray
    shift: np.ndarray


def normalization_of(graph: Graph, consumers: Consumers, conv: Node) -> Node | None:
    """Return the BatchNormalization that a Conv can take in; None where there is none.

    It must be the only reader of the Conv, fixed, and the Conv the only reader of its own weight and bias.
    """
    readers = consumers.get(conv.outputs[0], [])
    if conv.op != "Conv" or len(readers) != 1 or any(value.name == conv.outputs[0] for value in graph.outputs):
        return None
    node, position = readers[0]
    if node.op != "BatchNormalization" or position != 0 or node not in graph.nodes:
        return None
    if node.attributes.get("training_mode", 0) or any(node.outputs[1:]):
        return None
    constants = (*node.inputs[1:], *filter(None, conv.inputs[1:]))
    if not all(name in graph.initializers and graph.initializers.dtype(name) == np.float32 for name in constants):
        return None
    own = filter(None, conv.inputs[1:])
    return node if all(len(consumers[name]) == 1 for name in own) else None


def affine_of(module: OnnxModule, node: Node) -> Affine:
    """Return what a BatchNormalization does with its present values."""
    scale, bias, mean, variance = (weight_array(module, name).astype(np.float64) for name in node.inputs[1:5])
    factor = scale / np.sqrt(variance + np.float64(cast("float", node.attributes["epsilon"])))
    return Affine(factor, bias - mean * factor)
