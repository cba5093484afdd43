"""Writes a module's weights back into its original graph."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from toolchain.export.activations import add_activations
from toolchain.export.builder import Builder, free_prefix
from toolchain.export.draft import Draft, StoredTensor, key_of
from toolchain.export.encodings import PACKED_OPSET, Content, encode_extra, encode_pending
from toolchain.export.kernels import KERNELS, check_kernels
from toolchain.export.opset import raise_opset
from toolchain.export.reordering import merge_orders
from toolchain.export.weights import is_changed, weight_array
from toolchain.graph import IR_FREE_INITIALIZERS, Graph
from toolchain.module import OnnxModule

# The first IR version in which sparse initializers exist.
IR_SPARSE = 5


@dataclass(frozen=True, eq=False)
class WrittenModel:
    """A finished model.

    Attributes:
        proto: the original graph with its weights replaced; node names, order and metadata are the original's.
        tensors: by name, every constant that was stored anew.
    """

    proto: onnx.ModelProto
    tensors: Mapping[str, StoredTensor]


def write_model(
    module: OnnxModule, kernels: Mapping[str, str], packs: bool = True, without: frozenset[str] = frozenset()
) -> WrittenModel:
    """Write the module's weights, by the formats they lie in, into a copy of the graph it was made from.

    Args:
        module: its weights and formats; a value that has an activation format is rounded to it in the file as in the
            module, and every one of ``activation_values`` of the kernels needs one.
        kernels: a key of ``KERNELS`` by node name; a node that is left out stays float.
        packs: whether tensors are stored by the fewest bytes; else as they are, soon written and loaded, for timing.
        without: encodings that are not to be used, by their names.

    Raises:
        ExportError: a kernel names no node or does not fit it, or a weight has left its format.
    """
    original = module.graph
    check_kernels(original, module.formats, kernels)
    changed = [name for name in original.initializers if name not in module.formats and is_changed(module, name)]
    if not changed and not module.formats:
        proto = onnx.ModelProto()
        proto.CopyFrom(original.proto)
        return WrittenModel(proto, {})
    chosen = {key_of(node.outputs): kernels.get(node.name, "float") for node in original.walk()}
    graph = raise_opset(original, max(KERNELS[name].opset for name in chosen.values())) if module.formats else original
    pools = packs and graph.opset >= PACKED_OPSET
    draft = Draft(module, graph, Builder(free_prefix(_names(graph)), pools, packs, without), chosen)
    for node in graph.walk():
        KERNELS[chosen.get(key_of(node.outputs), "float")].lower(draft, node)
    for name in changed:
        if name not in draft.stored and name not in draft.replaced:  # int8 kernels have stored their biases
            _store_plain(draft, name)
    add_activations(draft)
    draft.settle(encode_pending(draft.builder, graph.opset))
    return WrittenModel(_assemble(draft), draft.stored)


def _store_plain(draft: Draft, name: str) -> None:
    """Store a tensor without a format in place, or by an encoding of fewer bytes."""
    array = weight_array(draft.module, name)
    if array.dtype == np.float32:
        child = draft.builder.fork()
        encoding = encode_extra(child, Content(array), name)
        if child.nodes or child.pending:
            draft.adopt(name, encoding, "float", child)
            return
    draft.values[name] = array
    draft.stored[name] = StoredTensor("dense", "float", array.nbytes)


def _names(graph: Graph) -> set[str]:
    used = {name for node in graph.nodes for name in (*node.inputs, *node.outputs)}
    return used | {value.name for value in graph.proto.graph.input} | set(graph.initializers)


def _assemble(draft: Draft) -> onnx.ModelProto:
    """Return a copy of the graph's proto with the draft's changes."""
    proto = onnx.ModelProto()
    proto.CopyFrom(draft.graph.proto)
    graph, builder = proto.graph, draft.builder
    inputs = [item for item in graph.input if item.name not in draft.replaced]
    dense = [_with_values(item, draft) for item in graph.initializer if item.name not in draft.replaced]
    again = [item.values.name for item in graph.sparse_initializer if item.values.name in draft.values]
    dense += [numpy_helper.from_array(draft.values[name], name) for name in again]
    gone = draft.replaced | set(again)
    sparse = [item for item in graph.sparse_initializer if item.values.name not in gone]
    written = [item for node in graph.node for item in _written(node, draft)]
    nodes = merge_orders(written, builder, [value.name for value in graph.output])
    for name, items in (
        ("input", inputs),
        ("initializer", dense + builder.initializers),
        ("sparse_initializer", sparse + builder.sparse),
        ("node", builder.nodes + nodes),
    ):
        graph.ClearField(name)
        getattr(graph, name).extend(items)
    needed = IR_SPARSE if builder.sparse else IR_FREE_INITIALIZERS if builder.initializers else 0
    proto.ir_version = max(proto.ir_version, needed)
    if draft.module.graph.proto.ir_version < IR_FREE_INITIALIZERS <= proto.ir_version:
        _take_initializers_from_inputs(graph)
    domains = {entry.domain for entry in proto.opset_import} | {"", "ai.onnx"}
    used = {node.domain for node in graph.node} - domains
    proto.opset_import.extend(helper.make_opsetid(name, 1) for name in sorted(used))
    return proto


def _take_initializers_from_inputs(graph: onnx.GraphProto) -> None:
    """Keep initializers constant: until IR version 4 all were, though listed as inputs; since, those listed are not.

    The runtime folds and fuses only what is constant.
    """
    constants = {item.name for item in graph.initializer} | {item.values.name for item in graph.sparse_initializer}
    inputs = [item for item in graph.input if item.name not in constants]
    graph.ClearField("input")
    graph.input.extend(inputs)


def _with_values(tensor: onnx.TensorProto, draft: Draft) -> onnx.TensorProto:
    """Return the initializer with the draft's values, its name and documentation kept."""
    if tensor.name not in draft.values:
        return tensor
    written = numpy_helper.from_array(draft.values[tensor.name], tensor.name)
    written.doc_string = tensor.doc_string
    written.metadata_props.extend(tensor.metadata_props)
    return written


def _written(node: onnx.NodeProto, draft: Draft) -> list[onnx.NodeProto]:
    """Return what stands in the place of an original node."""
    key = key_of(node.output)
    if key in draft.merged:
        return []
    if node.op_type != "Constant" or key not in draft.replaced | draft.values.keys():
        return [*draft.before.get(key, ()), draft.edited.get(key, node), *draft.after.get(key, ())]
    if key in draft.replaced:
        return []
    written = onnx.NodeProto()
    written.CopyFrom(node)
    del written.attribute[:]
    written.attribute.append(helper.make_attribute("value", numpy_helper.from_array(draft.values[key])))
    return [written]
