"""The gathered kernel: a Gather of input channels and a smaller grouped convolution or batched matrix product.

For weights whose outputs form groups that read some of the input channels each, other channels for every group; what
``--structure groups`` prunes to. One group is the case in which all outputs leave out the same channels. Outputs are
reordered so that groups are neighbours, and put back behind the product.

Matrix products are computed transposed, ``[groups, outputs, channels] x [groups, channels, rows]``: then a group's
channels are rows that lie together, and one form is fastest for any number of rows (onnxruntime 1.31, AVX-512).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from onnx import TensorProto, helper

from toolchain.errors import ExportError
from toolchain.export.builder import Builder, make_node
from toolchain.export.draft import Draft
from toolchain.export.floats import store_values
from toolchain.export.objections import operand_objection
from toolchain.export.weights import weight_array, weight_grid, weight_levels, weight_scale
from toolchain.formats import Grid, TensorFormat
from toolchain.graph import Graph, Node
from toolchain.graph.layout import layout_of
from toolchain.grouping import find_groups
from toolchain.structures import CHANNEL_MULTIPLE, group_count


@dataclass(frozen=True, eq=False)
class Plan:
    """How a weight is divided.

    Attributes:
        outputs: int64 ``[groups, outputs of a group]``: the outputs in their new order.
        channels: int64 ``[groups, channels]``: what each group reads, padded to equal length by what it ignores.
    """

    outputs: np.ndarray
    channels: np.ndarray

    @property
    def groups(self) -> int:
        """Number of groups."""
        return len(self.channels)

    @property
    def back(self) -> np.ndarray | None:
        """Where in the new order each output is; None where the order is the old one."""
        order = self.outputs.reshape(-1)
        return None if (np.diff(order) == 1).all() else np.argsort(order)


def objection(graph: Graph, node: Node, weight_format: TensorFormat | None) -> str:
    """Return why a node cannot run by gathered channels; empty when it can."""
    if node.op not in ("Conv", "Gemm", "MatMul"):
        return f"there are no gathered channels for {node.op}"
    if weight_format is None or weight_format.mask is None:
        return "its weight is not pruned"
    reason = operand_objection(graph, node) or _layout_objection(node, weight_format.mask.shape, weight_format.grid)
    if reason:
        return reason
    if node.op == "Conv" and len(node.inputs) > 2 and len(graph.consumers().get(node.inputs[2], ())) > 1:
        return "its bias is shared with other nodes"
    return "" if find_plan(node, weight_format.mask) else "its zeros do not lie in channels of groups"


def _layout_objection(node: Node, shape: Sequence[int], grid: Grid | None) -> str:
    layout = layout_of(node, 1, shape)
    if layout.stack[0] > 1:
        return "its weight has groups or a batch already"
    if not layout.kernel and len(shape) != 2:
        return f"its weight has {len(shape)} dimensions, not 2"
    if grid is not None and (grid.axis not in (None, layout.outputs) or grid.block_size):
        return "its scales do not run along the output channels"
    return ""


def find_plan(node: Node, mask: torch.Tensor) -> Plan | None:
    """Return how a node's weight is divided so that the fewest channels are read, or None where all of them are."""
    layout = layout_of(node, 1, tuple(mask.shape))
    inputs = layout.stack[2]
    support = mask.flatten(2).any(2) if mask.ndim > 2 else mask if layout.outputs == 0 else mask.T
    support = support.cpu().contiguous()
    best: Plan | None = None
    for count in dict.fromkeys((1, group_count(layout))):
        group = find_groups(support, count)
        if group is None:
            continue
        found = _divide(support.numpy(), group.numpy(), count)
        if found.channels.shape[1] < (inputs if best is None else best.channels.shape[1]):
            best = found
    return best


def _divide(support: np.ndarray, group: np.ndarray, count: int) -> Plan:
    inputs = support.shape[1]
    reads = np.stack([support[group == index].any(0) for index in range(count)])
    length = min(inputs, max(1, -(-int(reads.sum(1).max()) // CHANNEL_MULTIPLE)) * CHANNEL_MULTIPLE)
    channels = np.sort(np.argsort(~reads, axis=1, kind="stable")[:, :length], axis=1)
    return Plan(np.argsort(group, kind="stable").reshape(count, -1), channels)


def plan_of(draft: Draft, node: Node) -> Plan:
    """Return how a node's weight is divided.

    Raises:
        ExportError: the weight's mask leaves no channels out.
    """
    weight = node.inputs[1]
    mask = draft.module.formats[weight].mask
    plan = None if mask is None else find_plan(node, mask)
    if plan is None:
        raise ExportError(f"node {node.name!r}: no group of its outputs leaves channels of weight {weight!r} out")
    return plan


def lower_gathered(draft: Draft, node: Node) -> None:
    """Store the weight without the channels that nobody reads, and gather the others before the node.

    Raises:
        ExportError: the weight's mask leaves no channels out.
    """
    weight, plan = node.inputs[1], plan_of(draft, node)
    if weight not in draft.stored:
        _store_weight(draft, node, plan)
    if node.op == "Conv":
        _lower_conv(draft, node, plan)
    else:
        _lower_product(draft, node, plan)


def _store_weight(draft: Draft, node: Node, plan: Plan) -> None:
    """Store ``[outputs, channels, *kernel]`` of a Conv, ``[groups, outputs, channels]`` of a matrix product."""
    weight, is_conv = node.inputs[1], node.op == "Conv"
    grid = weight_grid(draft.module, weight)
    array = _divided(weight_array(draft.module, weight), node, plan)
    on_grid = None
    if grid is not None:
        scale = weight_scale(draft.module, weight)
        if scale.ndim:
            shape = (-1, *[1] * (array.ndim - 1)) if is_conv else (*plan.outputs.shape, 1)
            scale = scale[plan.outputs.reshape(-1)].reshape(shape)
        on_grid = _divided(weight_levels(draft.module, weight), node, plan), scale
    store_values(draft, weight, array, on_grid, "gathered")


def _divided(values: np.ndarray, node: Node, plan: Plan) -> np.ndarray:
    by_output = values if layout_of(node, 1, values.shape).outputs == 0 else values.T
    pairs = zip(plan.outputs, plan.channels, strict=True)
    groups = np.stack([by_output[outputs][:, channels] for outputs, channels in pairs])
    return groups.reshape(-1, *groups.shape[2:]) if node.op == "Conv" else groups


def _lower_conv(draft: Draft, node: Node, plan: Plan) -> None:
    proto = draft.edit(node)
    channels = indices(draft.builder, plan.channels.reshape(-1))
    proto.input[0] = draft.add_before(node, "Gather", [node.inputs[0], channels], {"axis": 1})
    kept = [item for item in proto.attribute if item.name != "group"]
    proto.ClearField("attribute")
    proto.attribute.extend([*kept, helper.make_attribute("group", plan.groups)])
    if plan.back is None:
        return
    if len(node.inputs) > 2 and node.inputs[2]:
        child = draft.builder.fork()
        proto.input[2] = child.tensor(weight_array(draft.module, node.inputs[2])[plan.outputs.reshape(-1)])
        draft.adopt(node.inputs[2], "dense", "gathered", child)
    proto.output[0] = draft.builder.fresh()
    back = indices(draft.builder, plan.back)
    draft.add_after(node, "Gather", [proto.output[0], back], {"axis": 1}, node.outputs[0])


def _lower_product(draft: Draft, node: Node, plan: Plan) -> None:
    """Replace a Gemm of ``[rows, inputs]`` or a MatMul of ``[..., inputs]`` by a product over groups."""
    builder, x, y = draft.builder, node.inputs[0], node.outputs[0]
    rows = x
    if node.op == "MatMul":  # of any rank
        inputs = draft.graph.initializers.shape(node.inputs[1])[0]
        rows = draft.add_before(node, "Reshape", [x, builder.ints([-1, inputs])])
    columns = draft.add_before(node, "Transpose", [rows], {"perm": [1, 0]})
    gathered = draft.add_before(node, "Gather", [columns, indices(builder, plan.channels)], {"axis": 0})
    product = builder.fresh()
    proto = draft.edit(node)
    proto.CopyFrom(make_node("MatMul", [node.inputs[1], gathered], [product], name=proto.name))
    value = draft.add_after(node, "Reshape", [product, builder.ints([plan.outputs.size, -1])])
    if plan.back is not None:
        value = draft.add_after(node, "Gather", [value, indices(builder, plan.back)], {"axis": 0})
    bias = node.inputs[2] if len(node.inputs) > 2 else ""
    is_last = node.op == "Gemm" and not bias
    value = draft.add_after(node, "Transpose", [value], {"perm": [1, 0]}, y if is_last else "")
    if bias:
        draft.add_after(node, "Add", [value, bias], output=y)
    elif node.op == "MatMul":
        sizes = draft.add_after(node, "Shape", [x])
        leading = draft.add_after(node, "Slice", [sizes, builder.ints([0]), builder.ints([-1])])
        shape = draft.add_after(node, "Concat", [leading, builder.ints([plan.outputs.size])], {"axis": 0})
        draft.add_after(node, "Reshape", [value, shape], output=y)


def indices(builder: Builder, values: np.ndarray) -> str:
    """Add what a Gather takes: int32, in half the bytes where a Cast pays."""
    if values.size > 16 and values.max() < 2**16:
        return builder.cast(builder.constant(values.astype(np.uint16)), TensorProto.INT32)
    return builder.constant(values.astype(np.int32))
