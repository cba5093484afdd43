"""What mutators choose from: the parts of a model, and strange names and numbers."""

import random
from collections.abc import Sequence
from typing import TypeVar

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

Item = TypeVar("Item")
Graphs = GraphProto | onnx.FunctionProto

NUMBERS = (0, -1, 1, 7, -(2**63), 2**31, 2**40, 2**60, 2**63 - 1)
NAMES = ("", "nobody", "a" * 5000, "line\nbreak", "nul\0byte", "\x1b[31mred", "../../etc", "naïve")


class UnfitError(Exception):
    """The model has nothing that the mutator damages."""


def pick(chance: random.Random, items: Sequence[Item]) -> Item:
    if not items:
        raise UnfitError
    return chance.choice(items)


def graphs(model: ModelProto) -> list[Graphs]:
    """Return the outermost graph, every subgraph and every function."""
    found: list[Graphs] = [model.graph, *model.functions]
    for graph in found:
        found.extend(item.g for node in graph.node for item in node.attribute if item.HasField("g"))
    return found


def proper_graphs(model: ModelProto) -> list[GraphProto]:
    """Return the outermost graph and every subgraph."""
    return [graph for graph in graphs(model) if isinstance(graph, GraphProto)]


def a_graph(model: ModelProto, chance: random.Random) -> Graphs:
    return pick(chance, [graph for graph in graphs(model) if graph.node])


def a_body(model: ModelProto, chance: random.Random) -> GraphProto:
    return pick(chance, proper_graphs(model)[1:])


def a_node(model: ModelProto, chance: random.Random) -> NodeProto:
    return pick(chance, a_graph(model, chance).node)


def an_attribute(model: ModelProto, chance: random.Random) -> AttributeProto:
    return pick(chance, [item for graph in graphs(model) for node in graph.node for item in node.attribute])


def a_tensor(model: ModelProto, chance: random.Random) -> TensorProto:
    found = [tensor for graph in proper_graphs(model) for tensor in graph.initializer]
    found += [
        part
        for graph in proper_graphs(model)
        for sparse in graph.sparse_initializer
        for part in (sparse.values, sparse.indices)
    ]
    found += [item.t for graph in graphs(model) for node in graph.node for item in node.attribute if item.HasField("t")]
    return pick(chance, found)


def a_value(model: ModelProto, chance: random.Random) -> onnx.ValueInfoProto:
    return pick(chance, [value for graph in proper_graphs(model) for value in (*graph.input, *graph.output)])


def known_names(graph: Graphs) -> list[str]:
    return [name for node in graph.node for name in (*node.input, *node.output) if name]
