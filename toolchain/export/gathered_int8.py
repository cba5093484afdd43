"""The gathered int8 kernel: a Gather of 8-bit channels and an integer convolution for every group of outputs.

A convolution per group, since a QLinearConv of several groups takes up to three times as long as they do one after the
other (3x3, 64 to 64 channels at 56x56, 16 for each of 4 groups: 0.68 ms against 0.22; onnxruntime 1.31, AVX-512 VNNI).
It is written as QLinearConv at once: between nodes in int8 there is nothing but levels, and a Gather moves those.

What only such nodes read keeps the order of the groups, and of it no more is made than they read.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from toolchain.export import gathered, int8
from toolchain.export.activations import activation_grid, add_scale_and_zero
from toolchain.export.affine import encode_levels
from toolchain.export.builder import make_node
from toolchain.export.draft import Draft, Inner, add_scale, key_of
from toolchain.export.gathered import Plan, indices, plan_of
from toolchain.export.products import Product, bias_steps
from toolchain.export.runs import Wiring
from toolchain.formats import Grid, TensorFormat
from toolchain.graph import Graph, Node

# Outputs that nobody reads are left out until so many are left: the runtime's integer kernels take them 16 at a time.
_OUTPUT_MULTIPLE = 16


def objection(graph: Graph, node: Node, weight_format: TensorFormat | None) -> str:
    """Return why a node cannot run by gathered channels in int8; empty when it can."""
    reason = int8.objection(graph, node, weight_format) or gathered.objection(graph, node, weight_format)
    if reason or node.op != "Conv":
        return reason or f"there are no gathered channels in int8 for {node.op}"
    return "its weight is shared with other nodes" if len(graph.consumers()[node.inputs[1]]) > 1 else ""


@dataclass(frozen=True, eq=False)
class _Group:
    """A convolution of some outputs: which they are, and which channels it reads, int64 each."""

    outputs: np.ndarray
    channels: np.ndarray


def lower_gathered_int8(draft: Draft, node: Node) -> None:
    """Replace a Conv, with a normalization and a bound behind it, by a QLinearConv for every group of its outputs.

    Raises:
        ExportError: the weight's mask leaves no channels out, or a bias is too large for int32 steps.
    """
    wiring = Wiring.of(draft.graph)
    value, bounded = wiring.after(node), wiring.bounded(node)
    grid = activation_grid(draft, value, node)
    is_whole = bounded is None or _is_implied(draft.graph, bounded, grid)
    pools = _pools(wiring, value) if is_whole else []
    result = pools[-1].outputs[0] if pools else value
    wanted = _wanted(draft, wiring, result) if is_whole else None
    groups = _groups(plan_of(draft, node), wanted)
    target = add_scale_and_zero(draft.builder, grid, value)
    nodes = _convolutions(draft, node, groups, target)
    if len(nodes) > 1:
        parts = [item.output[0] for item in nodes]
        nodes.append(make_node("Concat", parts, [draft.builder.fresh()], {"axis": 1}))
    if bounded is not None and is_whole:
        draft.merge(node, bounded)

    order = np.concatenate([group.outputs for group in groups])
    places = np.full(draft.graph.initializers.shape(node.inputs[1])[0], -1)
    places[order] = np.arange(order.size)
    for pool in pools:
        draft.inner[pool.inputs[0]] = Inner(nodes[-1].output[0], places)
        nodes.append(_pooled(draft, pool, nodes[-1].output[0]))
        draft.merge(node, pool)
    draft.before.setdefault(key_of(node.outputs), []).extend(nodes[:-1])
    made = draft.edit(node)
    made.CopyFrom(nodes[-1])
    made.name = node.name
    if wanted is not None:
        draft.inner[result] = Inner(made.output[0], places)
        return
    levels = draft.levels_of(result) if is_whole else draft.builder.fresh()
    if (np.diff(order) == 1).all():
        made.output[0] = levels
    else:
        draft.add_after(node, "Gather", [made.output[0], indices(draft.builder, places)], {"axis": 1}, levels)
    if bounded is not None and not is_whole:  # what its grid does not bound is bounded behind
        draft.edit(bounded).input[0] = draft.add_after(node, "DequantizeLinear", [levels, *target])
    elif result in draft.module.formats:
        draft.integers.add(result)
    else:
        draft.add_after(node, "DequantizeLinear", [levels, *target], output=result)


def _pools(wiring: Wiring, value: str) -> list[Node]:
    """Return the MaxPools, one behind the other, that alone read a value.

    They take levels in any order of channels, and ONNX Runtime runs them far faster right behind a convolution, where
    channels come last, than behind a Gather (256 channels of 13x13, windows of 3x3: 0.004 ms against 0.16).
    """
    readers = wiring.consumers.get(value, [])
    if len(readers) != 1 or value in wiring.outputs:
        return []
    node = readers[0][0]
    if node.op != "MaxPool" or wiring.makers.get(node.outputs[0]) is not node or not wiring.moves(node):
        return []
    return [node, *_pools(wiring, node.outputs[0])]


def _pooled(draft: Draft, pool: Node, source: str) -> onnx.NodeProto:
    made = onnx.NodeProto()
    made.CopyFrom(draft.edit(pool))
    made.input[0], made.output[0] = source, draft.builder.fresh()
    return made


def _is_implied(graph: Graph, bounded: Node, grid: Grid) -> bool:
    """Return whether what a Relu or a Clip cuts off lies beyond the first and the last level of its output's grid."""
    low, high = 0.0, np.inf
    if bounded.op == "Clip":
        names = [*bounded.inputs[1:], "", ""][:2]
        if any(name and name not in graph.initializers for name in names):
            return False
        low, high = (
            float(graph.initializers[name]) if name else bound
            for name, bound in zip(names, (-np.inf, np.inf), strict=True)
        )
    first, last = (np.rint(bound / grid.scale.item()) + grid.zero_point for bound in (low, high))
    return bool(first <= grid.levels[0] and last >= grid.levels[-1])


def _wanted(draft: Draft, wiring: Wiring, value: str) -> np.ndarray | None:
    """Return the channels of a value that are read, if none but nodes which gather them read it; else None."""
    readers = wiring.consumers.get(value, [])
    if not readers or value in wiring.outputs:
        return None
    if any(draft.kernels.get(key_of(reader.outputs)) != "gathered_int8" for reader, _ in readers):
        return None
    return np.unique(np.concatenate([plan_of(draft, reader).channels.reshape(-1) for reader, _ in readers]))


def _groups(plan: Plan, wanted: np.ndarray | None) -> list[_Group]:
    """Return the convolutions that make the wanted outputs, all if None; others only where they cost no time."""
    groups = []
    for outputs, channels in zip(plan.outputs, plan.channels, strict=True):
        is_wanted = np.ones(outputs.size, bool) if wanted is None else np.isin(outputs, wanted)
        count = -(-int(is_wanted.sum()) // _OUTPUT_MULTIPLE) * _OUTPUT_MULTIPLE
        if count:
            groups.append(_Group(outputs[np.argsort(~is_wanted, kind="stable")[:count]], channels))
    return groups


def _convolutions(draft: Draft, node: Node, groups: Sequence[_Group], target: tuple[str, str]) -> list[onnx.NodeProto]:
    """Store the weight and the bias, add the Gathers, and return the convolutions.

    Args:
        draft: the export.
        node: the Conv.
        groups: of its outputs.
        target: scale and zero point of what is made.
    """
    value, builder = node.inputs[0], draft.builder
    grid = activation_grid(draft, value, node)
    step = grid.scale.item()
    product = int8.take_product(draft, node, step)
    weights = _store_weight(draft, node.inputs[1], product, groups)
    steps = bias_steps(node, product, step)
    biases = [[] for _ in groups] if steps is None else _store_bias(draft, product.name, steps, groups)
    source, inner = add_scale_and_zero(builder, grid, value), draft.inner.get(value)
    attributes = [item for item in draft.edit(node).attribute if item.name != "group"]
    found = []
    for group, weight, bias in zip(groups, weights, biases, strict=True):
        levels, places = draft.levels_of(value), group.channels
        if inner is not None:
            levels, places = inner.levels, inner.places[group.channels]
        levels = draft.add_before(node, "Gather", [levels, indices(builder, places)], {"axis": 1})
        inputs = [levels, *source, *weight, *target, *bias]
        found.append(make_node("QLinearConv", inputs, [builder.fresh()]))
        found[-1].attribute.extend(attributes)
    return found


def _store_weight(draft: Draft, name: str, product: Product, groups: Sequence[_Group]) -> list[list[str]]:
    """Store the levels as one tensor; return the names of levels, scale and zero point of every group."""
    child = draft.builder.fork()
    levels = np.concatenate([product.levels[group.outputs][:, group.channels] for group in groups])
    zero = product.zero
    if zero is not None and zero.ndim:
        zero = zero[np.concatenate([group.outputs for group in groups])]
    encoding = encode_levels(child, levels, zero, name, draft.graph.opset)
    parts = [name]
    if len(groups) > 1:
        parts = [child.fresh() for _ in groups]
        sizes = child.ints([group.outputs.size for group in groups])
        child.nodes.append(make_node("Split", [name, sizes], parts))
    scales = [
        add_scale(child, product.scale[group.outputs] if product.scale.ndim else product.scale) for group in groups
    ]
    middle = child.constant(np.zeros((), np.int8))
    draft.adopt(name, encoding, "gathered_int8", child)
    return [[part, scale, middle] for part, scale in zip(parts, scales, strict=True)]


def _store_bias(draft: Draft, name: str, steps: np.ndarray, groups: Sequence[_Group]) -> list[list[str]]:
    child = draft.builder.fork()
    found = [[int8.store_bias(child, steps[group.outputs])] for group in groups]
    draft.adopt(name, "dense", "gathered_int8", child)
    return found
