"""Brings weights to light that the graph computes from constants, such as a Transpose or Identity of an initializer.

A general simplifier (onnxsim) was tried and left out: it copies a weight that several nodes share through Identity,
so that the copies train apart and the file grows, and it rewrites names and metadata that users rely on.
"""

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np
import onnx
from onnx import numpy_helper

from toolchain.errors import ModelError
from toolchain.graph.constants import IR_FREE_INITIALIZERS, add_initializers
from toolchain.graph.flatten import flatten
from toolchain.graph.io import load_graph
from toolchain.graph.model import Graph, Node
from toolchain.graph.trial import TOLERANCE, largest_difference, random_feeds, run
from toolchain.graph.weights import find_weights, weight_inputs

# Different numbers in every run, whatever their inputs are.
RANDOM = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}

# What these make from constants hides no trained weight: a fill holds no information, a random number is not
# constant, and a weight that is quantized already was compressed by somebody else on purpose.
OPAQUE = RANDOM | {"ConstantOfShape", "DequantizeLinear"}

# A few bytes can say "a weight of 64 GiB": constant expressions may make this many times what the file holds, and some.
MAX_GROWTH = 16
FREE_VALUES = 2**22


def simplify(graph: Graph) -> tuple[Graph, str]:
    """Bring weights that the graph hides to light as initializers, so that ``find_weights`` sees them.

    Weights inside functions and subgraphs move to the outermost graph. Weights that are computed from constants are
    computed once, and an Identity of an initializer is bypassed, so that a shared weight stays shared; that is used
    only when ONNX Runtime gives the same outputs on random inputs. Nothing else is changed.

    Returns:
        The new graph and a sentence that says what was done, or the same graph and a sentence that says why not;
        ``""`` where no weight is hidden.
    """
    flat = flatten(graph)
    simplified, note = _simplified(flat)
    notes = ["moved the weights of functions and subgraphs to the outermost graph"] if flat is not graph else []
    return simplified, "; ".join([*notes, *filter(None, [note])])


def _simplified(graph: Graph) -> tuple[Graph, str]:
    sources = _constant_values(graph)
    every = _hidden_weights(graph, sources)
    hidden = [name for name in every if not _is_tied(graph, sources, name)]
    tied = _tied_note(len(every) - len(hidden))
    if not hidden:
        return graph, tied
    kept = "weights that the graph computes from constants were left as they are"
    try:
        folded = _fold(graph, sources, hidden)
        difference = largest_difference(graph, folded, random_feeds(graph))
    except ModelError as error:
        return graph, f"{kept}, since they cannot be folded and checked: {error}"
    if not difference <= TOLERANCE:  # or it is no number
        return graph, f"{kept}, since folding changed an output by {difference:.1e}"
    gained = _compressible(folded) - _compressible(graph)
    if gained <= 0:
        return graph, tied
    done = f"folded constant expressions that hid {gained} weight{'s' if gained > 1 else ''}"
    return folded, "; ".join(filter(None, (done, tied)))


def _tied_note(count: int) -> str:
    if not count:
        return ""
    who = "1 weight is" if count == 1 else f"{count} weights are"
    return f"{who} computed from a tensor that is read otherwise too, and left: a copy would make the file larger"


def _constant_values(graph: Graph) -> dict[str, Node]:
    """Return the node behind every value that is computed from constants alone."""
    found: dict[str, Node] = {}
    for node in graph.nodes:
        names = [name for name in node.inputs if name]
        constant = bool(names) and all(name in graph.initializers or name in found for name in names)
        if constant and node.op not in OPAQUE and not node.bodies:
            found |= dict.fromkeys(filter(None, node.outputs), node)
    return found


def _is_tied(graph: Graph, sources: Mapping[str, Node], name: str) -> bool:
    """Return whether a weight is made of a tensor that something else keeps, such as an embedding that is read by rows.

    The weight would be a second tensor beside it, and the file larger than before however small that becomes.
    """
    if _behind_identities(name, sources) in graph.initializers:
        return False
    made = _ancestors(sources, [name])
    tensors = {key for key in made & graph.initializers.keys() if len(graph.initializers.shape(key)) > 1}
    kept = {value.name for value in graph.outputs}
    for node in graph.nodes:
        if made.isdisjoint(node.outputs):
            taken = weight_inputs(node)
            kept |= {key for position, key in enumerate(node.inputs) if position not in taken}
    return not tensors.isdisjoint(kept)


def _hidden_weights(graph: Graph, sources: Mapping[str, Node]) -> list[str]:
    uses = (
        name
        for node in graph.nodes
        for position, name in enumerate(node.inputs)
        if position in weight_inputs(node) and name in sources
    )
    return list(dict.fromkeys(uses))


def _fold(graph: Graph, sources: Mapping[str, Node], hidden: list[str]) -> Graph:
    aliases = {name: _behind_identities(name, sources) for name in hidden}
    computed = [source for source in dict.fromkeys(aliases.values()) if source not in graph.initializers]
    # A node with several outputs, such as a Split of stacked weights, is folded as a whole.
    outputs = dict.fromkeys(name for source in computed for name in sources[source].outputs if name)
    values = _evaluate(graph, sources, list(outputs))
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    for node in proto.graph.node:
        node.input[:] = [aliases.get(name, name) for name in node.input]
    folded = [node for node in proto.graph.node if not set(node.output) & values.keys()]
    del proto.graph.node[:]
    proto.graph.node.extend(folded)
    add_initializers(proto, (numpy_helper.from_array(value, name) for name, value in values.items()))
    _remove_unused(proto.graph, _ancestors(sources, hidden) - values.keys())
    return replace(load_graph(proto), path=graph.path)


def _behind_identities(name: str, sources: Mapping[str, Node]) -> str:
    while name in sources and sources[name].op == "Identity":
        name = sources[name].inputs[0]
    return name


def _ancestors(sources: Mapping[str, Node], names: list[str]) -> set[str]:
    """Return ``names`` and every value that they are computed from."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name and name not in found:
            found.add(name)
            waiting.extend(sources[name].inputs if name in sources else ())
    return found


def _evaluate(graph: Graph, sources: Mapping[str, Node], names: list[str]) -> dict[str, np.ndarray]:
    """Compute constant values with ONNX Runtime."""
    if not names:
        return {}
    needed = _ancestors(sources, names)
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    proto.ir_version = max(proto.ir_version, IR_FREE_INITIALIZERS)
    nodes = [node for node in graph.proto.graph.node if needed & set(node.output) and node.op_type != "Constant"]
    proto.graph.CopyFrom(
        onnx.helper.make_graph(
            nodes,
            "constants",
            [],
            [onnx.helper.make_empty_tensor_value_info(name) for name in names],
            [numpy_helper.from_array(graph.initializers[name], name) for name in needed & graph.initializers.keys()],
        )
    )
    _check_sizes(proto)
    return dict(zip(names, run(proto, names, {}), strict=True))


def _check_sizes(proto: onnx.ModelProto) -> None:
    """Check that computing constants does not make them far larger than the file.

    Raises:
        ModelError: it does, or how large they are is not known before they are computed.
    """
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        raise ModelError(f"their shapes cannot be told: {error}") from error
    shapes = {value.name: value.type.tensor_type for value in (*inferred.value_info, *inferred.output)}
    allowed = FREE_VALUES + MAX_GROWTH * sum(prod(tensor.dims) for tensor in proto.graph.initializer)
    for name in (name for node in proto.graph.node for name in node.output if name):
        if name not in shapes or not shapes[name].HasField("shape"):
            raise ModelError(f"the shape of {name!r} is not known before it is computed")
        dims = shapes[name].shape.dim
        if any(not dim.HasField("dim_value") for dim in dims) or prod(dim.dim_value for dim in dims) > allowed:
            sizes = [dim.dim_value if dim.HasField("dim_value") else "?" for dim in dims]
            raise ModelError(f"{name!r} would have the shape {sizes}, too large for what the file holds")


def _remove_unused(graph: onnx.GraphProto, candidates: set[str]) -> None:
    """Remove the nodes and initializers among ``candidates`` that nothing uses any more."""
    used = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if used & set(node.output) or not candidates.issuperset(filter(None, node.output)):
            kept.append(node)
            used |= names_read(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    dead = candidates - used
    for initializer in [entry for entry in graph.initializer if entry.name in dead]:
        graph.initializer.remove(initializer)
    for value in [entry for entry in graph.input if entry.name in dead]:  # up to IR 3 initializers are inputs too
        graph.input.remove(value)


def names_read(node: onnx.NodeProto) -> set[str]:
    """Return the names that a node and its subgraphs read; some of the subgraphs' may be their own."""
    found = set(node.input)
    for graph in (graph for attribute in node.attribute for graph in (attribute.g, *attribute.graphs)):
        found.update(value.name for value in graph.output)
        found.update(name for inner in graph.node for name in names_read(inner))
    return found


def _compressible(graph: Graph) -> int:
    return sum(1 for weight in find_weights(graph) if not weight.reason)
