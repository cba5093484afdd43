"""Which layers can be reconstructed, and the inputs that their weights multiply."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from toolchain.graph import Graph, Node, find_weights
from toolchain.graph.layout import Layout, find_layouts
from toolchain.ops.windows import explicit_pads, pad, windows

OPERATORS = ("Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul")
MOST_COLUMNS = 12288  # of a matrix; its covariance takes four bytes times the square


@dataclass(frozen=True, eq=False)
class Layer:
    """A node that multiplies one weight of its own.

    Attributes:
        weight: initializer name.
        node: the only one that reads it.
        layout: of the weight.
        bias: initializer name of a vector with a value per output that no other node reads; empty where there is none.
        mean: of the BatchNormalization that alone reads the layer, likewise; it takes what a bias would.
        normalization: that node.
        shortcut: the value that is added to the layer's outputs, behind the normalization if there is one; else empty.
    """

    weight: str
    node: Node
    layout: Layout
    bias: str = ""
    mean: str = ""
    normalization: Node | None = None
    shortcut: str = ""

    @property
    def centered(self) -> bool:
        """Whether something takes up the mean of its outputs."""
        return bool(self.bias or self.mean)

    @property
    def factor(self) -> float:
        """What the product is multiplied by: alpha of a Gemm."""
        alpha = self.node.attributes.get("alpha", 1.0)
        return alpha if isinstance(alpha, float) and "Gemm" in self.node.op else 1.0

    @property
    def columns(self) -> int:
        """How many inputs a row has."""
        return self.layout.stack[2] * self.layout.stack[3]


def find_layers(graph: Graph, names: Iterable[str]) -> tuple[list[Layer], dict[str, str]]:
    """Return the named weights' layers in the order of the graph, and why others cannot be reconstructed."""
    wanted = set(names)
    weights = [weight for weight in find_weights(graph) if weight.name in wanted]
    layouts, consumers = find_layouts(graph, weights), graph.consumers()
    order = {node.name: place for place, node in enumerate(graph.nodes)}
    layers, reasons = [], {}
    for weight in weights:
        uses = consumers[weight.name]
        reason = _objection(graph, uses, order, layouts.get(weight.name))
        if reason:
            reasons[weight.name] = reason
        else:
            layers.append(_layer(graph, weight.name, uses[0][0], layouts[weight.name]))
    return sorted(layers, key=lambda layer: order[layer.node.name]), reasons


def _objection(graph: Graph, uses: list[tuple[Node, int]], order: dict[str, int], layout: Layout | None) -> str:
    node, position = uses[0]
    if len(uses) > 1:
        return f"{len(uses)} nodes share it"
    if node.op not in OPERATORS or position != 1 or layout is None:
        return f"a {node.op} does not multiply it with rows of inputs"
    if node.name not in order:
        return "it is inside a subgraph"
    if node.attributes.get("transA", 0) or node.inputs[0] in graph.initializers:
        return "the other operand is turned or constant"
    if len(layout.shape) > 2 and node.op not in ("Conv", "FusedConv"):
        return "it is a batch of matrices"
    columns = layout.stack[2] * layout.stack[3]
    return f"its rows have {columns:,} inputs, the most is {MOST_COLUMNS:,}" if columns > MOST_COLUMNS else ""


def _layer(graph: Graph, weight: str, node: Node, layout: Layout) -> Layer:
    found = _with_mean(graph, Layer(weight, node, layout))
    last = node if found.normalization is None else found.normalization
    reader = _only_reader(graph, last)
    if not found.centered or reader is None or reader[0].op != "Add":
        return found
    other = reader[0].inputs[1 - reader[1]]
    return found if other in graph.initializers or other == last.outputs[0] else replace(found, shortcut=other)


def _only_reader(graph: Graph, node: Node) -> tuple[Node, int] | None:
    value = node.outputs[0]
    readers = graph.consumers().get(value, [])
    return readers[0] if len(readers) == 1 and all(value != output.name for output in graph.outputs) else None


def _with_mean(graph: Graph, layer: Layer) -> Layer:
    """Return the layer with what takes up the mean of its outputs, where there is something."""
    node, layout = layer.node, layer.layout
    channels, known = layout.shape[layout.outputs], graph.initializers
    if len(node.inputs) > 2 and node.inputs[2]:
        own = node.attributes.get("beta", 1.0) == 1.0 and _is_own_vector(graph, node.inputs[2], channels)
        return replace(layer, bias=node.inputs[2] if own else "")
    found = _only_reader(graph, node)
    if found is None:
        return layer
    reader, position = found
    if reader.op == "BatchNormalization" and position == 0 and _is_own_vector(graph, reader.inputs[3], channels):
        return replace(layer, mean=reader.inputs[3], normalization=reader)
    other = reader.inputs[1 - position] if reader.op == "Add" else ""
    is_bias = node.op == "MatMul" and other in known and _is_own_vector(graph, other, channels)
    return replace(layer, bias=other if is_bias else "")


def _is_own_vector(graph: Graph, name: str, size: int) -> bool:
    known = graph.initializers
    return name in known and known.shape(name) == (size,) and len(graph.consumers()[name]) == 1


def input_rows(layer: Layer, value: Tensor, most: int) -> Tensor:
    """Return the rows that the weight's columns multiply: ``[S, rows, K]``.

    Of a convolution these are patches of its input, in the order of the weight's inputs and kernel positions.

    Args:
        layer: what reads the value.
        value: the node's input: ``[N, C, ...]`` of a convolution, ``[..., K]`` of a product.
        most: rows of each sample; of more, so many are taken evenly.
    """
    if "Conv" not in layer.node.op:
        rows = value.reshape(value.shape[0], -1, value.shape[-1]) if value.ndim > 2 else value[:, None]
        return rows[:, _places(rows.shape[1], most, rows.device)].reshape(1, -1, value.shape[-1])
    kernel, attributes, rank = list(layer.layout.kernel_shape), layer.node.attributes, value.ndim - 2
    strides, dilations = (_whole(attributes.get(key), rank) for key in ("strides", "dilations"))
    pads = attributes.get("pads")
    before, after = explicit_pads(
        str(attributes.get("auto_pad", "NOTSET")),
        _whole(pads, 2 * rank) if pads else None,
        value.shape[2:],
        kernel,
        strides,
        dilations,
    )
    patches = windows(pad(value, before, after), kernel, strides, dilations)  # [N, C, *out, *kernel], a view
    sizes = patches.shape[2 : 2 + rank]
    places = torch.unravel_index(_places(prod(sizes), most, value.device), sizes)
    index: list[slice | Tensor] = [slice(None), slice(None), *places]
    chosen = patches[tuple(index)].movedim(2, 1)  # [N, rows, C, *kernel]
    count, rows_each, channels = chosen.shape[:3]
    groups = layer.layout.groups
    return chosen.reshape(count * rows_each, groups, channels // groups, -1).movedim(1, 0).flatten(2)


def output_rows(layer: Layer, value: Tensor, most: int) -> Tensor:
    """Return the outputs ``[S, rows, N]`` that ``input_rows`` lead to, of a value of their shape."""
    if "Conv" not in layer.node.op:
        rows = value.reshape(value.shape[0], -1, value.shape[-1]) if value.ndim > 2 else value[:, None]
        return rows[:, _places(rows.shape[1], most, rows.device)].reshape(1, -1, value.shape[-1])
    flat = value.flatten(2)
    chosen = flat[..., _places(flat.shape[2], most, value.device)].movedim(2, 1)  # [N, rows, C]
    return chosen.reshape(-1, layer.layout.groups, value.shape[1] // layer.layout.groups).movedim(1, 0)


def _places(count: int, most: int, device: torch.device) -> Tensor:
    """Return at most ``most`` of ``count`` places, spread evenly."""
    return torch.linspace(0, count - 1, min(count, most), device=device).round().long()


def _whole(value: object, count: int) -> list[int]:
    return [int(item) for item in value] if isinstance(value, list) else [1] * count
