"""Builds a ``Graph`` from a ``ModelProto``."""

from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from toolchain.errors import ModelError
from toolchain.graph.model import MIN_OPSET, Attribute, Graph, Node, Value

# A few bytes can declare a sparse tensor of any size; larger than this is taken for damage.
MAX_SPARSE_BYTES = 2**34


def build_graph(proto: onnx.ModelProto, path: Path | None = None) -> Graph:
    """Return the typed view of ``proto``.

    Raises:
        ModelError: the opset is older than 7, or the model has no inputs that can be fed.
    """
    opsets = {entry.domain if entry.domain != "ai.onnx" else "": entry.version for entry in proto.opset_import}
    if opsets.get("", 0) < MIN_OPSET:
        raise ModelError(
            f"the model uses ai.onnx opset {opsets.get('', 'none')}, at least {MIN_OPSET} is needed",
            hint="onnx.version_converter.convert_version(model, 13) raises it",
        )
    initializers = dict(_constants(proto))
    names: set[str] = set()
    nodes = []
    for index, node in enumerate(proto.graph.node):
        if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
            nodes.append(_node(node, _unique_name(node, index, names), opsets))
    return Graph(
        proto=proto,
        nodes=tuple(nodes),
        initializers=initializers,
        inputs=tuple(_value(info) for info in proto.graph.input if info.name not in initializers),
        outputs=tuple(_value(info) for info in proto.graph.output),
        opsets=opsets,
        path=path,
    )


def _constants(proto: onnx.ModelProto) -> Iterator[tuple[str, np.ndarray]]:
    for tensor in proto.graph.initializer:
        yield tensor.name, _frozen(numpy_helper.to_array(tensor))
    for sparse in proto.graph.sparse_initializer:
        yield sparse.values.name, _frozen(_densify(sparse))
    for node in proto.graph.node:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            yield node.output[0], _frozen(_constant(node))


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _densify(sparse: onnx.SparseTensorProto) -> np.ndarray:
    """Return the dense array of a sparse tensor with linear ``[NNZ]`` or coordinate ``[NNZ, rank]`` indices."""
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    if prod(sparse.dims) * values.itemsize > MAX_SPARSE_BYTES:
        raise ModelError(f"sparse tensor {sparse.values.name!r} has {list(sparse.dims)} elements, too many to hold")
    if indices.size and indices.min() < 0:
        raise ModelError(f"sparse tensor {sparse.values.name!r} has a negative index")
    dense = np.zeros(tuple(sparse.dims), values.dtype)
    if indices.ndim == 1:
        dense.reshape(-1)[indices] = values
    else:
        dense[tuple(indices.T)] = values
    return dense


def _constant(node: onnx.NodeProto) -> np.ndarray:
    attribute = node.attribute[0]
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return numpy_helper.to_array(value)
    if attribute.name == "sparse_value":
        return _densify(value)
    if attribute.name in ("value_int", "value_ints"):
        return np.array(value, np.int64)
    if attribute.name in ("value_float", "value_floats"):
        return np.array(value, np.float32)
    return np.array(value, object)


def _unique_name(proto: onnx.NodeProto, index: int, taken: set[str]) -> str:
    """Return the node's name, made distinct where the file gives none or, as ONNX allows, the same one twice."""
    name = proto.name or f"{proto.op_type}_{index}"
    while name in taken:
        name = f"{name}_{index}"
    taken.add(name)
    return name


def _node(proto: onnx.NodeProto, name: str, opsets: Mapping[str, int]) -> Node:
    domain = "" if proto.domain == "ai.onnx" else proto.domain
    attributes: dict[str, Attribute] = {}
    since = opsets.get(domain, 1)
    try:
        schema = onnx.defs.get_schema(proto.op_type, since, domain)
    except onnx.defs.SchemaError:
        schema = None  # an operator outside the standard: its own attributes are all that is known
    if schema is not None:
        since = schema.since_version
        attributes |= {
            name: _attribute(spec.default_value)
            for name, spec in schema.attributes.items()
            if spec.default_value.name or spec.default_value.type
        }
    attributes |= {attribute.name: _attribute(attribute) for attribute in proto.attribute}
    return Node(
        name=name,
        op=proto.op_type,
        domain=domain,
        inputs=tuple(proto.input),
        outputs=tuple(proto.output),
        attributes=attributes,
        since=since,
    )


def _attribute(proto: onnx.AttributeProto) -> Attribute:
    value = onnx.helper.get_attribute_value(proto)
    if proto.type == onnx.AttributeProto.TENSOR:
        return numpy_helper.to_array(value)
    if proto.type == onnx.AttributeProto.STRING:
        return bytes(value).decode()
    if proto.type == onnx.AttributeProto.STRINGS:
        return [item.decode() for item in value]
    if proto.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS):
        return list(value)
    plain: Attribute = value
    return plain


def _value(info: onnx.ValueInfoProto) -> Value:
    tensor = info.type.tensor_type
    if not info.type.HasField("tensor_type"):
        raise ModelError(
            f"{info.name!r} is a {info.type.WhichOneof('value')}, only tensors can be graph inputs and outputs"
        )
    shape = None
    if tensor.HasField("shape"):
        # Old exporters write 0 or -1 for a dimension that is open.
        shape = tuple(dim.dim_value if dim.dim_value > 0 else (dim.dim_param or None) for dim in tensor.shape.dim)
    return Value(info.name, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type), shape)
