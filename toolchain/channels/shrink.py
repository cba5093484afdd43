"""Removes channels from a model: constants are cut, and what depends on their number is adapted."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import numpy_helper

from toolchain.channels.edits import Editor, edit
from toolchain.channels.groups import Channels
from toolchain.channels.space import Axis
from toolchain.errors import ModelError, nearest
from toolchain.graph import Graph, load_graph
from toolchain.graph.build import find_constants
from toolchain.graph.flatten import flatten


def remove_channels(graph: Graph, channels: Channels, removed: Mapping[str, Sequence[int] | np.ndarray]) -> Graph:
    """Return the model without some channels.

    It computes what ``graph`` computes with the slices of these channels at zero. Everything that no removed channel is
    in stays as it is, bit for bit.

    Args:
        graph: the model in which ``channels`` were found; the values of its weights may have changed since.
        channels: all of its channels.
        removed: indices of channels by the name of their group.

    Raises:
        ModelError: a group is not there or cannot lose channels, none of it or of a tensor would stay, or the model is
            too large for a protobuf.
    """
    kept = kept_positions(channels, removed)
    if not kept:
        return graph
    if graph.is_mapped:
        raise ModelError("channels of models beyond 2 GiB cannot be removed")
    flat = flatten(graph)
    proto = onnx.ModelProto()
    proto.CopyFrom(flat.proto)
    _cut_constants(proto, flat, kept)
    editor = Editor(proto, channels, kept, {node.output[0]: node for node in proto.graph.node})
    edit(editor, flat.nodes)
    _remove_unused(proto.graph, editor.dropped)
    _forget_shapes(proto.graph, {name for name, _ in kept})
    return replace(load_graph(proto), path=graph.path)


def kept_positions(channels: Channels, removed: Mapping[str, Sequence[int] | np.ndarray]) -> dict[Axis, np.ndarray]:
    """Return, for every dimension that loses something, which positions stay.

    Raises:
        ModelError: a group is not there or cannot lose channels, or none of it or of a tensor would stay.
    """
    groups = {group.name: group for group in channels.groups}
    gone: list[np.ndarray] = []
    for name, indices in removed.items():
        if name not in groups:
            raise ModelError(f"no group of channels is named {name!r}", hint=nearest(name, groups))
        if groups[name].reason:
            raise ModelError(f"no channel of {name!r} can be removed: {groups[name].reason}")
        gone.append(channels.members[name][np.asarray(indices, np.int64)])
    lost = np.concatenate([np.empty(0, np.int64), *gone])
    kept = {axis: ~np.isin(numbers, lost) for axis, numbers in channels.numbers.items()}
    for (name, axis), stays in kept.items():
        if stays.size and not stays.any():
            raise ModelError(f"nothing would be left of dimension {axis} of {name!r}")
    return {axis: stays for axis, stays in kept.items() if not stays.all()}


def _cut_constants(proto: onnx.ModelProto, graph: Graph, kept: Mapping[Axis, np.ndarray]) -> None:
    constants = find_constants(proto)
    for name in dict.fromkeys(name for name, _ in kept if name in graph.initializers):
        array = graph.initializers[name]
        for axis in range(array.ndim):
            if (name, axis) in kept:
                array = np.compress(kept[name, axis], array, axis)
        constant = constants[name]
        if isinstance(constant, onnx.AttributeProto):
            (constant.floats if constant.floats else constant.ints)[:] = array.tolist()
        elif isinstance(constant, onnx.SparseTensorProto):
            constant.CopyFrom(_sparse(array, name))
        else:
            written = numpy_helper.from_array(array, constant.name)
            written.doc_string = constant.doc_string
            written.metadata_props.extend(constant.metadata_props)
            constant.CopyFrom(written)


def _sparse(array: np.ndarray, name: str) -> onnx.SparseTensorProto:
    positions = np.flatnonzero(array)
    values = numpy_helper.from_array(array.reshape(-1)[positions], name)
    indices = numpy_helper.from_array(positions.astype(np.int64), f"{name}/indices")
    return onnx.helper.make_sparse_tensor(values, indices, list(array.shape))


def _remove_unused(graph: onnx.GraphProto, candidates: set[str]) -> None:
    """Remove the constants among ``candidates`` that no node reads any more."""
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    dead = candidates - used
    for tensor in [item for item in graph.initializer if item.name in dead]:
        graph.initializer.remove(tensor)
    for value in [item for item in graph.input if item.name in dead]:  # up to IR 3 initializers are inputs too
        graph.input.remove(value)
    for node in [item for item in graph.node if item.op_type == "Constant" and item.output[0] in dead]:
        graph.node.remove(node)


def _forget_shapes(graph: onnx.GraphProto, changed: set[str]) -> None:
    """Remove shapes that were noted for values that have others now, and correct those of initializers among inputs."""
    for value in [entry for entry in graph.value_info if entry.name in changed]:
        graph.value_info.remove(value)
    shapes = {tensor.name: tensor.dims for tensor in graph.initializer if tensor.name in changed}
    for value in (entry for entry in graph.input if entry.name in shapes):
        for dim, size in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
            dim.dim_value = size
