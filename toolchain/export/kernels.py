"""Kernels: how the runtime executes a node with a compressed weight."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from toolchain.errors import ExportError, nearest
from toolchain.export import dynamic, floats, gathered, gathered_int8, int8, nbits
from toolchain.export.draft import Draft
from toolchain.export.weights import weight_levels
from toolchain.formats import TensorFormat
from toolchain.graph import Graph, Node
from toolchain.module import OnnxModule


@dataclass(frozen=True)
class Kernel:
    """One way to execute a node.

    Attributes:
        lower: stores the node's weight in the layout that the kernel reads, and changes the node and its constants.
        objection: why a node cannot run this way; empty when it can.
        opset: the first ai.onnx version that has what the kernel adds.
        bits: that a session holds for every weight it multiplies by; None where its levels decide.
    """

    lower: Callable[[Draft, Node], None]
    objection: Callable[[Graph, Node, TensorFormat | None], str]
    opset: int
    bits: int | None


def _no_objection(graph: Graph, node: Node, weight_format: TensorFormat | None) -> str:  # noqa: ARG001 - as the others
    return ""


KERNELS = {
    "float": Kernel(floats.lower_float, _no_objection, opset=7, bits=32),
    "int8": Kernel(int8.lower_int8, int8.objection, opset=13, bits=8),  # DequantizeLinear per channel
    # MatMulInteger 10, but its weight is packed.
    "nbits": Kernel(nbits.lower_nbits, nbits.objection, opset=11, bits=None),
    "dynamic": Kernel(dynamic.lower_dynamic, dynamic.objection, opset=11, bits=8),  # DynamicQuantizeLinear
    "gathered": Kernel(gathered.lower_gathered, gathered.objection, opset=10, bits=32),  # Slice by inputs
    # Split by inputs.
    "gathered_int8": Kernel(gathered_int8.lower_gathered_int8, gathered_int8.objection, opset=13, bits=8),
}


def weight_of(graph: Graph, formats: Mapping[str, TensorFormat], node: Node) -> str | None:
    """Return the compressed weight that a node reads, or None."""
    return next((name for name in node.inputs if name in formats and name in graph.initializers), None)


def held_bits(module: OnnxModule, weight: str, kernel: str) -> int:
    """Return how many bits a session holds for every value of a weight that it multiplies by.

    Raises:
        ExportError: the levels decide, and the weight is on no grid, or has left its format.
    """
    fixed = KERNELS[kernel].bits
    return nbits.bits_for(weight_levels(module, weight)) if fixed is None else fixed


def check_kernels(graph: Graph, formats: Mapping[str, TensorFormat], kernels: Mapping[str, str]) -> None:
    """Raise one error for the first node that cannot run by the kernel chosen for it.

    Args:
        graph: the model.
        formats: by value name.
        kernels: by node name.

    Raises:
        ExportError: a name is unknown, a kernel does not fit its node, or nodes that share a weight disagree.
    """
    nodes = {node.name: node for node in graph.walk()}
    for name, kernel in kernels.items():
        if name not in nodes:
            raise ExportError(
                f"kernel {kernel!r} is asked for node {name!r}, which does not exist", nearest(name, nodes)
            )
        if kernel not in KERNELS:
            raise ExportError(f"node {name!r}: there is no kernel {kernel!r}", nearest(kernel, KERNELS))
        weight = weight_of(graph, formats, nodes[name])
        objection = KERNELS[kernel].objection(graph, nodes[name], None if weight is None else formats[weight])
        if objection:
            raise ExportError(f"{nodes[name].op} node {name!r} cannot run as {kernel}: {objection}")
    for name, users in graph.consumers().items():
        chosen = {kernels.get(node.name, "float") for node, _ in users}
        if len(chosen) > 1 and name in formats and name in graph.initializers:
            raise ExportError(
                f"the nodes that share weight {name!r} have different kernels: {', '.join(sorted(chosen))}"
            )
