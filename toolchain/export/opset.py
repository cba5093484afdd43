"""Raises a model's opset where the file needs operators that its own does not have."""

from functools import lru_cache

import onnx
from onnx import helper

from calibration.example import example_of
from toolchain.errors import ExportError, ToolchainError
from toolchain.export.encodings import PACKED_OPSET
from toolchain.graph import Graph
from toolchain.graph.build import build_graph
from toolchain.graph.trial import TOLERANCE, largest_difference

_REFUSALS = (ToolchainError, onnx.version_converter.ConvertError, onnx.checker.ValidationError)


def raise_opset(graph: Graph, needed: int) -> Graph:
    """Return the graph at the opset that packed tensors and the kernels need, or as it is where it has it already.

    A graph that cannot be converted, or that computes something else afterwards, stays as it is, when the kernels can
    be written all the same: its tensors are then stored by what its opset has.

    Raises:
        ExportError: the kernels need the newer opset and the graph cannot be converted to it.
    """
    if graph.opset >= max(needed, PACKED_OPSET):
        return graph
    found = _converted(graph, max(needed, PACKED_OPSET))
    if isinstance(found, Graph):
        return found
    if needed > graph.opset:
        raise ExportError(
            f"the chosen kernels need opset {needed}, the model has {graph.opset} and cannot be raised: {found}",
            hint='write kernel = "float" under [export] in a recipe',
        )
    return graph


@lru_cache(maxsize=2)  # the candidates for the kernels are all made from one graph, in one of two opsets
def _converted(graph: Graph, opset: int) -> Graph | str:
    """Return the graph at another opset, or why it cannot be had there."""
    strange = {node.op for node in graph.walk() if not node.domain and not onnx.defs.has(node.op, graph.opset)}
    if strange:  # ONNX Runtime still has some that were an experiment
        return f"ONNX has no operator {', '.join(sorted(strange))}"
    try:
        proto = onnx.version_converter.convert_version(graph.proto, opset)
        onnx.checker.check_model(proto)
        converted = build_graph(proto, graph.path)
        problem = _difference(graph, converted)
    except (*_REFUSALS, RuntimeError, ValueError, IndexError) as error:
        return str(error).strip()
    if problem:
        return problem
    proto.ir_version = max(
        graph.proto.ir_version, helper.find_min_ir_version_for(proto.opset_import, ignore_unknown=True)
    )
    return converted


def _difference(before: Graph, after: Graph) -> str:
    """Return in what ``after`` differs from ``before``; empty when names are the same and results agree.

    Raises:
        ToolchainError: nothing is known that the two could be run on, or one of them fails on it.
    """
    if missing := before.initializers.keys() - after.initializers.keys():
        return f"initializer {min(missing)!r} was lost"
    made = {name for node in after.nodes for name in node.outputs}
    if missing := {name for node in before.nodes for name in node.outputs} - made:
        return f"value {min(missing)!r} was lost"
    difference = largest_difference(before, after, example_of(before))
    if not difference <= TOLERANCE:  # or it is no number
        return f"an output differs by {difference:.2g} of its largest value"
    return ""
