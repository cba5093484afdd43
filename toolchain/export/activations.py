"""8-bit activations: which values need a format, and the QuantizeLinear and DequantizeLinear nodes that apply it."""

from collections.abc import Mapping, MutableSequence

import numpy as np

from toolchain.errors import ExportError
from toolchain.export.builder import Builder
from toolchain.export.draft import Draft
from toolchain.formats import Grid
from toolchain.graph import Graph, Node

# What ONNX Runtime takes into the quantized operator before it: rounding to a grid that starts at the bound does both.
_FUSED = ("Relu", "Clip")

# ONNX Runtime quantizes the float weights of these (WeightBiasQuantization: per tensor, so that a pruned or low-bit
# weight loses its values) where it finds a DequantizeLinear before them, also behind these, which it moves it across.
_REQUANTIZED = ("Conv", "ConvTranspose", "Gemm")
_CROSSED = ("Dropout", "Flatten", "Identity", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")


def activation_values(graph: Graph, kernels: Mapping[str, str]) -> tuple[str, ...]:
    """Return the values that need an 8-bit format for the int8 nodes of ``kernels``, in the order of the graph.

    That is the input of every int8 node, and the output of every int8 Conv, which ONNX Runtime executes in integers
    only when the output is quantized too; where one Relu or Clip follows, the value after it.
    """
    chosen = [node for node in graph.nodes if kernels.get(node.name) == "int8"]
    consumers = graph.consumers()
    outputs = {value.name for value in graph.outputs}
    found: dict[str, None] = {}
    for node in chosen:
        found[node.inputs[0]] = None
        if node.op == "Conv":
            found[_final_output(node, consumers, outputs)] = None
    return tuple(found)


def _final_output(node: Node, consumers: Mapping[str, list[tuple[Node, int]]], outputs: set[str]) -> str:
    value = node.outputs[0]
    readers = consumers.get(value, [])
    if len(readers) == 1 and readers[0][0].op in _FUSED and readers[0][1] == 0 and value not in outputs:
        return readers[0][0].outputs[0]
    return value


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


def add_activations(draft: Draft, kernels: Mapping[str, str]) -> None:
    """Round every value that has an activation format, once, where it is made: all its readers see the rounded one.

    Args:
        draft: the export.
        kernels: by first output of the node.
    """
    graph, module = draft.graph, draft.module
    consumers = graph.consumers()
    producers = {name: node for node in graph.nodes for name in node.outputs if name}
    for value, value_format in module.formats.items():
        if value in graph.initializers:
            continue
        if value_format.grid is None or value_format.mask is not None:
            raise ExportError(f"value {value!r} has a format without a grid or with a mask; it is not a weight")
        scale = add_scale_and_zero(draft.builder, value_format.grid, value)
        raw, levels = draft.builder.fresh(), draft.builder.fresh()
        if value in producers:  # the rounded value keeps the name, so that readers and graph outputs stay as they are
            node = producers[value]
            for proto in draft.around(node):
                _rename(proto.output, value, raw)
            draft.add_after(node, "QuantizeLinear", [raw, *scale], output=levels)
            draft.add_after(node, "DequantizeLinear", [levels, *scale], output=value)
        else:
            draft.builder.node("QuantizeLinear", [value, *scale], output=levels)
            draft.builder.node("DequantizeLinear", [levels, *scale], output=raw)
            for node in dict.fromkeys(node for node, _ in consumers.get(value, [])):
                for proto in draft.around(node):
                    _rename(proto.input, value, raw)
    for node in graph.nodes:
        behind = _behind(node.inputs[0], producers) if node.op in _REQUANTIZED else ""
        if behind in module.formats and kernels.get(node.outputs[0], "float") == "float":
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


def _rename(names: MutableSequence[str], old: str, new: str) -> None:
    for index, name in enumerate(names):
        if name == old:
            names[index] = new
