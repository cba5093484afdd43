"""The model that is compressed: loaded, simplified, and refused where it cannot be."""

from pathlib import Path

import numpy as np

from toolchain.errors import ModelError
from toolchain.graph import Graph, find_weights, load_graph, simplify, widen


def load_source(path: Path) -> tuple[Graph, str]:
    """Return the graph of a file, simplified, and a sentence on what that changed; empty where nothing did.

    Raises:
        ModelError: the file cannot be read, or is no model that can be compressed.
    """
    graph = load_graph(path)
    if graph.is_mapped:
        raise ModelError(
            f"{graph.path} has more than 2 GiB of weights, which cannot be compressed",
            hint="compress a smaller model; toolchain.load and toolchain.save take this one as it is",
        )
    graph, widened = widen(graph)
    graph, note = simplify(graph)
    _check_ports(graph)
    _check_weights(graph)
    return graph, "; ".join(filter(None, (widened, note)))


def _check_weights(graph: Graph) -> None:
    """Refuse weights that no loss can be computed with.

    Raises:
        ModelError: a weight that would be pruned or quantized holds NaN or infinity.
    """
    for weight in find_weights(graph):
        if not weight.reason and not np.isfinite(graph.initializers[weight.name]).all():
            raise ModelError(
                f"weight {weight.name!r} of {weight.op} holds NaN or infinity",
                hint="export the model again from a training that did not diverge",
            )


def _check_ports(graph: Graph) -> None:
    """Refuse what cannot be fed from data or compared by numbers.

    Raises:
        ModelError: an input or output is no tensor, or holds strings.
    """
    for role, values in (("input", graph.inputs), ("output", graph.outputs)):
        for value in values:
            what = "strings" if value.dtype.kind in "OU" else f"a {value.kind}" if value.kind != "tensor" else ""
            if what:
                raise ModelError(
                    f"{role} {value.name!r} is {what}; compressing needs tensors of numbers at both ends",
                    hint="cut the graph where tensors of numbers begin and end, by onnx.utils.extract_model; "
                    "for scikit-learn models, export with options={'zipmap': False}",
                )
