"""What a node says about numbers of channels, and must say anew when some are gone."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper, numpy_helper

from toolchain.channels.groups import Channels
from toolchain.channels.rules.common import integer, is_given
from toolchain.channels.rules.layout import pad_amounts, resized_axes, slice_bounds
from toolchain.channels.space import Axis
from toolchain.graph import Node
from toolchain.graph.constants import add_initializers


@dataclass
class Editor:
    """Changes a model in place.

    Attributes:
        proto: the model.
        channels: what was found in it.
        kept: by dimension that loses something, which positions stay.
        nodes: of the model, by first output.
        dropped: constants that a node has another one for now.
    """

    proto: onnx.ModelProto
    channels: Channels
    kept: dict[Axis, np.ndarray]
    nodes: dict[str, onnx.NodeProto]
    dropped: set[str] = field(default_factory=set)

    def size(self, axis: Axis) -> int:
        """Return how long a dimension is from now on."""
        return int(self.kept[axis].sum()) if axis in self.kept else self.before(axis)

    def before(self, axis: Axis) -> int:
        """Return how long a dimension was."""
        return self.channels.trace.shapes[axis[0]][axis[1]]

    def stays(self, axis: Axis) -> np.ndarray:
        """Return which positions of a dimension stay."""
        return self.kept.get(axis, np.ones(self.before(axis), bool))

    def set_attribute(self, node: Node, name: str, value: int | list[int] | None) -> None:
        """Give an attribute another value; None takes it away."""
        proto = self.nodes[node.outputs[0]]
        for attribute in [item for item in proto.attribute if item.name == name]:
            proto.attribute.remove(attribute)
        if value is not None:
            proto.attribute.append(helper.make_attribute(name, value))

    def set_input(self, node: Node, position: int, array: np.ndarray) -> None:
        """Give a node a constant of its own; the one that it had may be another node's too."""
        name = self._name(f"{node.outputs[0]}/{position}")
        add_initializers(self.proto, [numpy_helper.from_array(array, name)])
        self._redirect(node, position, name)

    def set_entries(self, node: Node, position: int, entries: np.ndarray, changed: np.ndarray) -> None:
        """Replace int64 entries of an input that is computed when the model runs; opsets 7 and 8 have no Where."""
        name = self._name(f"{node.outputs[0]}/{position}")
        stays, wanted = f"{name}/stays", f"{name}/wanted"
        arrays = {stays: (~changed).astype(np.int64), wanted: entries * changed}
        add_initializers(self.proto, (numpy_helper.from_array(array, key) for key, array in arrays.items()))
        patches = [
            helper.make_node("Mul", [node.inputs[position], stays], [f"{name}/rest"], f"{name}/rest"),
            helper.make_node("Add", [f"{name}/rest", wanted], [name], name),
        ]
        for patch in patches:
            where = next(k for k, item in enumerate(self.proto.graph.node) if item.output[0] == node.outputs[0])
            self.proto.graph.node.insert(where, patch)
        self.nodes[node.outputs[0]] = self.proto.graph.node[where + 1]
        self._redirect(node, position, name)

    def _redirect(self, node: Node, position: int, name: str) -> None:
        proto = self.nodes[node.outputs[0]]
        while len(proto.input) <= position:
            proto.input.append("")
        self.dropped.add(proto.input[position])
        proto.input[position] = name

    def _name(self, wanted: str) -> str:
        taken = {tensor.name for tensor in self.proto.graph.initializer} | self.channels.trace.shapes.keys()
        while wanted in taken:
            wanted += "_"
        return wanted


def edit(editor: Editor, nodes: Iterable[Node]) -> None:
    """Adapt the nodes that meet a dimension which loses something."""
    cut = {name for name, _ in editor.kept}
    for node in nodes:
        if (node.domain, node.op) in _EDITS and not cut.isdisjoint((*node.inputs, *node.outputs)):
            _EDITS[node.domain, node.op](editor, node)


def _groups(editor: Editor, node: Node) -> None:
    if integer(node, "group", 1) > 1:  # all channels over those of one group
        whole = (node.inputs[0], 1) if node.op != "ConvTranspose" else (node.outputs[0], 1)
        editor.set_attribute(node, "group", editor.size(whole) // editor.size((node.inputs[1], 1)))


def _normalized_groups(editor: Editor, node: Node) -> None:
    channels = (node.inputs[0], 1)
    groups = integer(node, "num_groups", 1) * editor.size(channels) // editor.before(channels)
    editor.set_attribute(node, "num_groups", groups)


def _hidden(editor: Editor, node: Node) -> None:
    editor.set_attribute(node, "hidden_size", editor.size((node.inputs[2], 2)))


def _sizes(editor: Editor, node: Node, position: int, axes: list[int]) -> None:
    """Write the sizes of the output's dimensions into an input; entries that are measured are right by themselves."""
    trace, name, output = editor.channels.trace, node.inputs[position], node.outputs[0]
    constant = trace.constant(name)
    entries = trace.numbers[name] if constant is None else constant
    measured = editor.channels.sizes.get(name, np.zeros(entries.shape, bool))
    wanted = entries.copy()
    for place, axis in enumerate(axes):
        size, said = editor.size((output, axis)), entries[place] == editor.before((output, axis))
        copied = node.op == "Reshape" and not entries[place] and not integer(node, "allowzero", 0)
        if (said and not measured[place]) or (copied and editor.size((node.inputs[0], place)) != size):
            wanted[place] = size
    changed = wanted != entries
    if changed.any() and constant is not None:
        editor.set_input(node, position, wanted)
    elif changed.any():
        editor.set_entries(node, position, wanted, changed)


def _output_sizes(editor: Editor, node: Node) -> None:
    position = {"ConstantOfShape": 0, "Resize": 3}.get(node.op, 1)
    if not is_given(node, position):
        return
    rank = len(editor.channels.trace.shapes[node.outputs[0]])
    entries = editor.channels.trace.shapes[node.inputs[position]][0]
    axes = resized_axes(node, rank) if node.op == "Resize" else list(range(rank - entries, rank))
    _sizes(editor, node, position, axes)


def _split(editor: Editor, node: Node) -> None:
    along = integer(node, "axis", 0) % len(editor.channels.trace.shapes[node.inputs[0]])
    if (node.inputs[0], along) not in editor.kept:
        return
    sizes = [editor.size((name, along)) for name in node.outputs]
    if node.since < 13:
        editor.set_attribute(node, "split", sizes)
    else:
        editor.set_attribute(node, "num_outputs", None)
        editor.set_input(node, 1, np.array(sizes, np.int64))


def _slice(editor: Editor, node: Node) -> None:
    bounds = slice_bounds(node, editor.channels.trace) or {}
    starts, ends = [], []
    for axis, bound in bounds.items():
        stays = editor.stays((node.inputs[0], axis))
        start, end, _ = slice(bound.start, bound.stop).indices(stays.size)
        whole = stays.all()
        starts.append(bound.start if whole else int(stays[:start].sum()))
        ends.append(bound.stop if whole else int(stays[: max(start, end)].sum()))
    if any((node.inputs[0], axis) in editor.kept for axis in bounds):
        _set_list(editor, node, 1, "starts", starts)
        _set_list(editor, node, 2, "ends", ends)


def _pad(editor: Editor, node: Node) -> None:
    amounts = pad_amounts(node, editor.channels.trace) or []
    before, after = [], []
    for axis, (first, last) in enumerate(amounts):
        stays = editor.stays((node.outputs[0], axis))
        whole = stays.all()
        before.append(first if whole else int(stays[:first].sum()))
        after.append(last if whole else int(stays[stays.size - last :].sum()))
    named = list(range(len(amounts)))
    if is_given(node, 3):
        axes = editor.channels.trace.constant(node.inputs[3])
        named = [] if axes is None else [int(axis) % len(amounts) for axis in axes]
    _set_list(editor, node, 1, "pads", [side[axis] for side in (before, after) for axis in named])


def _set_list(editor: Editor, node: Node, position: int, name: str, values: list[int]) -> None:
    """Set what is an attribute in old versions and an input in newer ones."""
    if name in node.attributes:
        editor.set_attribute(node, name, values)
        return
    old = editor.channels.trace.constant(node.inputs[position])
    if old is None or old.tolist() != values:
        editor.set_input(node, position, np.array(values, np.int64 if old is None else old.dtype))


def _gather(editor: Editor, node: Node) -> None:
    x, indices = node.inputs[0], node.inputs[1]
    along = integer(node, "axis", 0) % len(editor.channels.trace.shapes[x])
    chosen = editor.channels.trace.constant(indices)
    if (x, along) in editor.kept and chosen is not None:
        stays = editor.kept[x, along]
        numbers = np.cumsum(stays) - 1
        taken = chosen % stays.size
        editor.set_input(node, 1, numbers[taken[stays[taken]]].astype(chosen.dtype))


_EDITS: dict[tuple[str, str], Callable[[Editor, Node], None]] = {
    ("", "ConstantOfShape"): _output_sizes,
    ("", "Conv"): _groups,
    ("", "ConvTranspose"): _groups,
    ("", "Expand"): _output_sizes,
    ("", "GRU"): _hidden,
    ("", "Gather"): _gather,
    ("", "GroupNormalization"): _normalized_groups,
    ("", "LSTM"): _hidden,
    ("", "Pad"): _pad,
    ("", "RNN"): _hidden,
    ("", "Reshape"): _output_sizes,
    ("", "Resize"): _output_sizes,
    ("", "Slice"): _slice,
    ("", "Split"): _split,
    ("com.microsoft", "FusedConv"): _groups,
}
