"""8-bit activations: which values need a format, and the QuantizeLinear and DequantizeLinear nodes that apply it."""

from collections.abc import Mapping, MutableSequence, Sequence

import numpy as np
import onnx

from toolchain.errors import ExportError
from toolchain.export import nbits
from toolchain.export.builder import Builder
from toolchain.export.draft import Draft, key_of
from toolchain.export.runs import rounded_values
from toolchain.formats import Grid, OwnRange, TensorFormat
from toolchain.graph import Graph, Node
from toolchain.module import OnnxModule

# ONNX Runtime quantizes the float weights of these (WeightBiasQuantization: per tensor, so that a pruned or low-bit
# weight loses its values) where it finds a DequantizeLinear before them, also behind these, which it moves it across.
_REQUANTIZED = ("Conv", "ConvTranspose", "Gemm")
_CROSSED = ("Dropout", "Flatten", "Identity", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")

# What ONNX Runtime moves as integers only where the file says so.
_ON_LEVELS = ("DepthToSpace", "Pad", "SpaceToDepth")


def activation_values(graph: Graph, kernels: Mapping[str, str]) -> tuple[str, ...]:
    """Return the values that need an 8-bit grid of their own for ``kernels``, in the order of the graph."""
    return tuple(name for name, source in rounded_values(graph, kernels).items() if name == source)


def activation_formats(
    module: OnnxModule, kernels: Mapping[str, str], grids: Mapping[str, Grid]
) -> dict[str, TensorFormat]:
    """Return the format of every value that is rounded for ``kernels``, of the grids of ``activation_values``."""
    rounded = rounded_values(module.graph, kernels)
    found = {name: TensorFormat(grid=grids[source]) for name, source in rounded.items()}
    ranges = _own_ranges(module, kernels)
    return found | {name: TensorFormat(own_range=ranges[name]) for name in ranges if name not in found}


def _own_ranges(module: OnnxModule, kernels: Mapping[str, str]) -> dict[str, OwnRange]:
    """Return how values are rounded that nobody reads but kernels which do so by their range, all in one way.

    Of a value that others read as it is there is no one format: what such kernels make of it is left to them.
    """
    found: dict[str, set[OwnRange | None]] = {}
    for name, uses in module.graph.consumers().items():
        found[name] = {_own_range(module, node, kernels.get(node.name)) if place == 0 else None for node, place in uses}
    outputs = {value.name for value in module.graph.outputs}
    ranges = {name: next(iter(ways)) for name, ways in found.items() if len(ways) == 1 and name not in outputs}
    return {name: way for name, way in ranges.items() if way is not None}


def _own_range(module: OnnxModule, node: Node, kernel: str | None) -> OwnRange | None:
    """Return how a kernel rounds the first input of a node by its range; None for one that does not."""
    if kernel == "dynamic":
        return OwnRange()
    return nbits.input_range(module, node) if kernel == "nbits" else None


def activation_grid(draft: Draft, value: str, node: Node) -> Grid:
    """Return the 8-bit grid of a value that an int8 node reads or makes.

    Raises:
        ExportError: there is none.
    """
    found = draft.module.formats.get(value)
    if found is None or found.grid is None:
        raise ExportError(
            f"{node.op} node {node.name!r} is to run in int8, but its value {value!r} has no 8-bit format",
            hint="collect grids for activation_values(graph, kernels) first",
        )
    return found.grid


def add_scale_and_zero(builder: Builder, grid: Grid, value: str) -> tuple[str, str]:
    """Add the float32 scale and uint8 zero point of an activation grid, shared by all who ask."""
    if grid.levels != tuple(range(256)) or grid.axis is not None or not 0 <= grid.zero_point <= 255:
        raise ExportError(
            f"value {value!r} has an activation grid with levels {grid.levels[0]} to {grid.levels[-1]}, "
            f"axis {grid.axis} and zero point {grid.zero_point}; an 8-bit kernel needs levels 0 to 255 and one scale"
        )
    scale = builder.constant(np.array(grid.scale.item(), np.float32))
    return scale, builder.constant(np.array(grid.zero_point, np.uint8))


def add_activations(draft: Draft) -> None:
    """Round every value that has an activation format, once, where it is made: all its readers see the rounded one."""
    graph, module = draft.graph, draft.module
    makers = {
        name: draft.merged.get(key_of(node.outputs), node) for node in graph.nodes for name in node.outputs if name
    }
    made: dict[str, str] = {}  # levels by the value that they stand for
    on_levels = [node for node in graph.nodes if draft.kernels.get(key_of(node.outputs)) == "gathered_int8"]
    for value, value_format in module.formats.items():
        if value in graph.initializers or value in draft.inner or value_format.own_range:
            continue
        if value_format.grid is None and value_format.rescaling is not None:  # rounded behind the Relu that follows
            continue
        if value_format.grid is None or value_format.mask is not None:
            raise ExportError(f"value {value!r} has a format without a grid or with a mask; it is not a weight")
        scale = add_scale_and_zero(draft.builder, value_format.grid, value)
        levels = made[value] = draft.levels_of(value)
        if value in draft.integers:
            draft.add_after(makers[value], "DequantizeLinear", [levels, *scale], output=value)
        elif value not in makers:
            draft.builder.node("QuantizeLinear", [value, *scale], output=levels)
            readers = [node for node in graph.nodes if value in node.reads and node not in on_levels]
            raw = draft.builder.node("DequantizeLinear", [levels, *scale]) if readers else ""
            for proto in (proto for node in readers for proto in draft.around(node)):
                _read_instead(proto, value, raw)
        elif makers[value].op in _ON_LEVELS and _shares_grid(module, value, makers[value].inputs[0], made):
            _move_levels(draft, makers[value], made[makers[value].inputs[0]], (levels, *scale))
            on_levels.append(makers[value])
        else:  # the rounded value keeps the name, so that readers and graph outputs stay as they are
            raw = draft.builder.fresh()
            for proto in draft.around(makers[value]):
                _rename(proto.output, value, raw)
            draft.add_after(makers[value], "QuantizeLinear", [raw, *scale], output=levels)
            draft.add_after(makers[value], "DequantizeLinear", [levels, *scale], output=value)
    _drop_unread(draft, on_levels, makers)
    _hide_from_others(draft, makers)


def _shares_grid(module: OnnxModule, value: str, source: str, made: Mapping[str, str]) -> bool:
    if source not in made:
        return False
    first, second = module.formats[value].grid, module.formats[source].grid
    if first is None or second is None:
        return False
    return (float(first.scale), first.zero_point) == (float(second.scale), second.zero_point)


def _move_levels(draft: Draft, node: Node, source: str, target: tuple[str, str, str]) -> None:
    """Let a node move the levels ``source`` instead of the values that they stand for.

    Args:
        draft: the export.
        node: is one of ``_ON_LEVELS``.
        source: levels that it reads.
        target: the levels that it makes, their scale and their zero point.
    """
    levels, scale, zero = target
    proto, value = draft.edit(node), node.outputs[0]
    proto.input[0], proto.output[0] = source, levels
    if node.op == "Pad":
        proto.input[2:3] = [zero]
    draft.add_after(node, "DequantizeLinear", [levels, scale, zero], output=value)


def _drop_unread(draft: Draft, on_levels: Sequence[Node], makers: Mapping[str, Node]) -> None:
    """Take out the float values that nobody reads, as nodes read levels; the runtime would compute them."""
    consumers, outputs = draft.graph.consumers(), {value.name for value in draft.graph.outputs}
    for value in dict.fromkeys(node.inputs[0] for node in on_levels):
        if value in draft.inner or value in outputs or value not in makers:
            continue
        if all(reader in on_levels for reader, _ in consumers[value]):
            key = key_of(makers[value].outputs)
            draft.after[key] = [item for item in draft.after[key] if item.output[0] != value]


def _hide_from_others(draft: Draft, makers: Mapping[str, Node]) -> None:
    """Keep the runtime from quantizing the weights of float nodes that read a rounded value."""
    for node in draft.graph.nodes:
        behind = _behind(node.inputs[0], makers) if node.op in _REQUANTIZED else ""
        if behind in draft.module.formats and draft.kernels.get(key_of(node.outputs), "float") == "float":
            _keep_float(draft, node)


def _behind(name: str, producers: Mapping[str, Node]) -> str:
    """Return the value that ``name`` is no more than a rearrangement or a maximum of."""
    while name in producers and producers[name].op in _CROSSED:
        name = producers[name].inputs[0]
    return name


def _keep_float(draft: Draft, node: Node) -> None:
    """Hide from the runtime that a node reads a rounded value: a sum of one term is a copy, and stays where it is."""
    written = draft.edit(node)
    written.input[0] = draft.add_before(node, "Sum", [written.input[0]])


def _read_instead(node: onnx.NodeProto, old: str, new: str) -> None:
    """Let a node and its subgraphs read the value ``new`` in the place of ``old``."""
    _rename(node.input, old, new)
    for graph in (graph for attribute in node.attribute for graph in (attribute.g, *attribute.graphs)):
        made = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        if old in made.union(*(inner.output for inner in graph.node)):
            continue  # a value of its own under that name
        for inner in graph.node:
            _read_instead(inner, old, new)
        for result in graph.output:
            if result.name == old:
                result.name = new


def _rename(names: MutableSequence[str], old: str, new: str) -> None:
    for index, name in enumerate(names):
        if name == old:
            names[index] = new
