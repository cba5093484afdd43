"""A graph without what nobody computes with: long inner names, attributes at their defaults, constants held twice.

A small network's file is to a fifth made of these. What others may rely on stays: inputs, outputs, their names and
shapes, the order of the nodes, the metadata of the model. So do the shapes of inner values where ONNX Runtime, which
does not find all of them by itself, would leave a part of the graph as it is without.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain, product
from string import ascii_letters, digits

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from toolchain.errors import ExportError
from toolchain.export.builder import make_tensor
from toolchain.export.constants import fold_small
from toolchain.export.folding import optimized_graph
from toolchain.export.sessions import open_session
from toolchain.graph import IR_FREE_INITIALIZERS

# Names are kept unless they make out more than this part of the file.
NOTICEABLE = 0.05

# Where it is not given, every entry has this value (of the operators below, since opset 11; ONNX's schemas leave it to
# the text), and the kernel has the shape of the constant weight.
_EVERY_ENTRY = {"dilations": 1, "strides": 1, "pads": 0, "output_padding": 0}
_WINDOWED = ("AveragePool", "Conv", "ConvTranspose", "LpPool", "MaxPool")
_WEIGHTED = ("Conv", "ConvTranspose")
_WINDOW_OPSET = 11

# Serialized bytes of constants that are compared with others, and their types.
_SMALL = 1024
_PLAIN = (
    TensorProto.BOOL,
    TensorProto.FLOAT,
    TensorProto.INT8,
    TensorProto.INT32,
    TensorProto.INT64,
    TensorProto.UINT8,
)


def shorten(proto: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> tuple[onnx.ModelProto, str]:
    """Return the model under shorter inner names and what to say of it; as it is where that saves little.

    Args:
        proto: is not changed. With functions or subgraphs it keeps its names.
        feeds: one batch, on which the shorter model must compute the same, bit for bit, in ONNX Runtime, and in no
            more nodes.

    Returns:
        The model, and a sentence for the report; empty where the model is ``proto`` itself.
    """
    if proto.functions or proto.training_info or proto.graph.quantization_annotation or _has_subgraphs(proto.graph):
        return proto, ""
    before = proto.ByteSize()
    payload = sum(size for item in proto.graph.initializer if (size := item.ByteSize()) > _SMALL)
    if before - payload <= NOTICEABLE * before:  # no more than that could be saved, so do not copy a large model
        return proto, ""
    short = next((found for shapes in (False, True) if _agree(proto, found := _shortened(proto, shapes), feeds)), proto)
    saved = 1 - short.ByteSize() / before
    if saved <= NOTICEABLE:
        return proto, ""
    return short, (
        f"Names of nodes and inner values, attributes at their defaults, constants held twice and nodes that compute "
        f"constants were {saved:.0%} of so small a file: the names are short now, the rest left out. Inputs, outputs "
        "and metadata stay as they were."
    )


def _has_subgraphs(graph: onnx.GraphProto) -> bool:
    kinds = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
    return any(attribute.type in kinds for node in graph.node for attribute in node.attribute)


def _shortened(proto: onnx.ModelProto, shapes: bool) -> onnx.ModelProto:
    """Return the shorter model, with or without the shapes of inner values."""
    short = onnx.ModelProto()
    short.CopyFrom(proto)
    if not shapes:
        short.graph.ClearField("value_info")
    _drop_texts(short.graph)
    _drop_defaults(short)
    if short.ir_version >= IR_FREE_INITIALIZERS:
        fold_small(short)
        _share_constants(short.graph)
    _rename(short.graph)
    return short


def _drop_texts(graph: onnx.GraphProto) -> None:
    for item in (*graph.node, *graph.initializer, *graph.value_info):
        item.ClearField("doc_string")
        item.ClearField("metadata_props")
    for node in graph.node:
        node.ClearField("name")


def _drop_defaults(proto: onnx.ModelProto) -> None:
    opset = max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    constants = {item.name for item in proto.graph.initializer}
    for node in proto.graph.node:
        if node.input and constants.issuperset(node.input):
            constants.update(node.output)
        if node.domain not in ("", "ai.onnx") or not onnx.defs.has(node.op_type, max_inclusive_version=opset):
            continue
        schema = onnx.defs.get_schema(node.op_type, opset)
        kept = [item for item in node.attribute if not _is_default(item, schema)]
        if node.op_type in _WINDOWED and opset >= _WINDOW_OPSET:
            kept = [item for item in kept if set(item.ints) != {_EVERY_ENTRY.get(item.name)}]
            if node.op_type in _WEIGHTED and node.input[1] in constants:
                kept = [item for item in kept if item.name != "kernel_shape"]
        node.ClearField("attribute")
        node.attribute.extend(kept)


def _is_default(attribute: AttributeProto, schema: onnx.defs.OpSchema) -> bool:
    known = schema.attributes.get(attribute.name)
    if known is None or known.required or not known.default_value.type:
        return False
    equal: bool = helper.get_attribute_value(attribute) == helper.get_attribute_value(known.default_value)
    return equal and attribute.type == known.default_value.type and not attribute.ref_attr_name


def _share_constants(graph: onnx.GraphProto) -> None:
    """Hold small constants once, as initializers: a Constant node is one with more around it."""
    fixed = {value.name for value in chain(graph.input, graph.output)}
    found = [(item, item.name) for item in graph.initializer if item.name not in fixed]
    nodes = [node for node in graph.node if _constant(node) is not None and node.output[0] not in fixed]
    found += [(tensor, node.output[0]) for node in nodes if (tensor := _constant(node)) is not None]
    first: dict[tuple[bool, bytes], str] = {}
    same = {}
    made = [item for item in graph.initializer if item.name in fixed]
    for tensor, name in found:
        plain = make_tensor(numpy_helper.to_array(tensor), "") if _is_small(tensor) else None
        key = name.encode() if plain is None else plain.SerializeToString(deterministic=True)
        same[name] = first.setdefault((plain is None, key), name)
        if same[name] == name:
            made.append(tensor if plain is None else plain)
            made[-1].name = name
    kept = [node for node in graph.node if node.output[0] not in same]
    for node in kept:
        node.input[:] = [same.get(name, name) for name in node.input]
    for field, items in (("node", kept), ("initializer", made)):
        graph.ClearField(field)
        getattr(graph, field).extend(items)


def _is_small(tensor: TensorProto) -> bool:
    inline = tensor.data_location != TensorProto.EXTERNAL
    return inline and tensor.data_type in _PLAIN and tensor.ByteSize() <= _SMALL


def _constant(node: onnx.NodeProto) -> TensorProto | None:
    """Return the tensor of a Constant node that holds one."""
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
        return None
    return next(
        (item.t for item in node.attribute if item.name == "value" and item.type == AttributeProto.TENSOR), None
    )


def _rename(graph: onnx.GraphProto) -> None:
    """Give the shortest names to the values that are named most often; inputs and outputs keep theirs."""
    fixed = {"", *(value.name for value in chain(graph.input, graph.output))}
    tensors = [*graph.initializer, *(item.values for item in graph.sparse_initializer)]
    uses = Counter(name for node in graph.node for name in chain(node.input, node.output))
    uses.update(tensor.name for tensor in tensors)
    names = (name for name in _short_names() if name not in fixed)
    renamed = {name: next(names) for name, _ in uses.most_common() if name not in fixed}
    for node in graph.node:
        for field in (node.input, node.output):
            field[:] = [renamed.get(name, name) for name in field]
    for tensor in tensors:
        tensor.name = renamed.get(tensor.name, tensor.name)
    shapes = [item for item in graph.value_info if item.name in renamed]
    for value in shapes:
        value.name = renamed[value.name]
    graph.ClearField("value_info")
    graph.value_info.extend(shapes)


def _short_names() -> Iterator[str]:
    length = 1
    while True:
        yield from map("".join, product(ascii_letters, *[ascii_letters + digits] * (length - 1)))
        length += 1


def _agree(proto: onnx.ModelProto, short: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> bool:
    """Return whether ONNX Runtime computes the same bits of both models, and of the shorter one in no more nodes."""
    try:
        expected, got = (open_session(model, threads=1).run(None, dict(feeds)) for model in (proto, short))
        allowed, nodes = (len(optimized_graph(model).node) for model in (proto, short))
    except ExportError:
        return False
    return nodes <= allowed and all(
        isinstance(left, np.ndarray) and isinstance(right, np.ndarray) and left.tobytes() == right.tobytes()
        for left, right in zip(expected, got, strict=True)
    )
