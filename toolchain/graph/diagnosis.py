"""Says where in a model a fault lies: ONNX's checker often tells the fault alone."""

from collections.abc import Callable, Iterator

import onnx
from onnx import checker

from toolchain.errors import ModelError
from toolchain.graph.checking import OBJECTIONS
from toolchain.graph.external import tensors_of

Part = tuple[str, Callable[..., object], object]


def refuse(proto: onnx.ModelProto, objection: str, where: str) -> None:
    """Do nothing for a model to which the checker has no objection.

    Args:
        proto: the model.
        objection: of ONNX's checker; empty for a valid model.
        where: the model's path, or what else it is called.

    Raises:
        ModelError: otherwise; it names the node, value or tensor where it is one of these alone.
    """
    if objection:
        culprit = _culprit(proto, objection.partition("\n")[0])
        raise ModelError(f"{where} is not a valid ONNX model: {culprit}{objection}")


def check_names(proto: onnx.ModelProto, where: str) -> None:
    """Check that every name is text.

    Raises:
        ModelError: a name is no UTF-8.
    """
    strange = next((name for name in _names(proto) if not isinstance(name, str)), None)
    if strange is not None:
        raise ModelError(f"{where} is not a valid ONNX model: the name {strange!r} is no UTF-8")


def _graphs(proto: onnx.ModelProto) -> list[onnx.GraphProto | onnx.FunctionProto]:
    """Return the graph and every function, each before the subgraphs in it."""
    found: list[onnx.GraphProto | onnx.FunctionProto] = [proto.graph, *proto.functions]
    for graph in found:  # which grows meanwhile
        for attribute in (attribute for node in graph.node for attribute in node.attribute):
            found.extend([attribute.g] if attribute.HasField("g") else [])
            found.extend(attribute.graphs)
    return found


def _names(proto: onnx.ModelProto) -> Iterator[object]:
    """Yield every name; protobuf gives those that are no UTF-8 as bytes."""
    yield from (entry.domain for entry in proto.opset_import)
    yield from (
        text for tensor in tensors_of(proto) for entry in tensor.external_data for text in (entry.key, entry.value)
    )
    for graph in _graphs(proto):
        yield graph.name
        if isinstance(graph, onnx.GraphProto):
            yield from (value.name for value in (*graph.input, *graph.output, *graph.value_info))
            yield from (tensor.name for tensor in graph.initializer)
            yield from (sparse.values.name for sparse in graph.sparse_initializer)
        else:
            yield from (graph.domain, *graph.input, *graph.output, *graph.attribute)
        for node in graph.node:
            yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
            yield from (name for attribute in node.attribute for name in (attribute.name, attribute.ref_attr_name))


def _culprit(proto: onnx.ModelProto, reason: str) -> str:
    """Return the innermost part of the model to which the checker objects for the same reason, ``""`` where none is."""
    context = checker.C.CheckerContext()
    try:
        context.ir_version = proto.ir_version
        context.opset_imports = {entry.domain: entry.version for entry in proto.opset_import}
    except TypeError:
        return ""  # versions that no context can hold: the fault is there
    for graph in reversed(_graphs(proto)):
        for what, check, part in _parts(graph):
            try:
                check(part, context)
            except OBJECTIONS as error:
                if reason in str(error):
                    return f"{what}: "
    return ""


def _parts(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[Part]:
    if isinstance(graph, onnx.GraphProto):
        yield from ((f"tensor {tensor.name!r}", checker.check_tensor, tensor) for tensor in graph.initializer)
        yield from (
            (f"sparse tensor {sparse.values.name!r}", checker.check_sparse_tensor, sparse)
            for sparse in graph.sparse_initializer
        )
        yield from ((f"input {value.name!r}", checker.check_value_info, value) for value in graph.input)
        yield from ((f"output {value.name!r}", checker.check_value_info, value) for value in graph.output)
    for node in graph.node:
        made = (
            f"node {node.name!r}" if node.name else f"node that makes {', '.join(map(repr, node.output)) or 'nothing'}"
        )
        yield f"{node.op_type} {made}", checker.check_node, node
