"""Versions of operator sets: which a model names, and which can be imported."""

from collections.abc import Iterable, Iterator

import onnx

from toolchain.errors import ModelError
from toolchain.graph.model import MIN_OPSET


def read_opsets(entries: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
    """Return the version by domain, ``""`` for ai.onnx."""
    return {entry.domain if entry.domain != "ai.onnx" else "": entry.version for entry in entries}


def find_schema(op: str, version: int, domain: str) -> onnx.defs.OpSchema | None:
    """Return the schema of an operator; None for one outside the standard."""
    try:
        return onnx.defs.get_schema(op, version, domain)
    except onnx.defs.SchemaError:
        return None  # an operator outside the standard: its own attributes are all that is known


def check_opset(proto: onnx.ModelProto, version: int) -> None:
    """Refuse a model of an old opset, unless all its operators are still the same in the oldest that is imported.

    Raises:
        ModelError: it names the operators that are not.
    """
    used = {node.op_type for node in _nodes_of(proto.graph) if node.domain in ("", "ai.onnx")}
    old = sorted(op for op in used if version < MIN_OPSET and _since(op, version) != _since(op, MIN_OPSET))
    if old:
        raise ModelError(
            f"the model uses ai.onnx opset {version}, in which {', '.join(old)} differ from opset {MIN_OPSET}, the "
            "oldest that is imported",
            hint="onnx.version_converter.convert_version(model, 13) raises it",
        )


def _since(op: str, version: int) -> int:
    schema = find_schema(op, version, "")
    return schema.since_version if schema is not None else 0


def _nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _nodes_of(body)
