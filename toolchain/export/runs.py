"""Runs of quantized operators: which values are rounded to 8 bits so that integers are passed on from node to node.

An int8 node reads a rounded value and, where it is a Conv, makes one. Between two of those the operators that ONNX
Runtime has in integers are kept in the run: then no value goes back to float only to be rounded again.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from toolchain.export.normalized import Consumers, normalization_of
from toolchain.graph import Graph, Node

# The kernels that read and make values rounded by ranges that were observed.
STATIC = ("int8", "gathered_int8")

# What ONNX Runtime takes into the quantized operator before it: rounding to a grid that starts at the bound does both.
_FUSED = ("Relu", "Clip")

# Arithmetic that ONNX Runtime (1.31, CPU) does on integers where all its operands and the output are rounded, and how
# many of the inputs are operands; None for all.
_INTEGER = {
    "Add": None,
    "AveragePool": 1,
    "Concat": None,
    "GlobalAveragePool": 1,
    "LeakyRelu": 1,
    "Mul": 2,
    "Sigmoid": 1,
}

# What only moves or drops values: what it makes lies on the grid of what it reads.
_MOVING = (
    "DepthToSpace",
    "Dropout",
    "Flatten",
    "Identity",
    "MaxPool",
    "Pad",
    "Reshape",
    "Resize",
    "Slice",
    "SpaceToDepth",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)


@dataclass(frozen=True, eq=False)
class Wiring:
    """A graph, and who makes and who reads a value in it.

    Attributes:
        graph: the model.
        makers: the node outside of subgraphs that makes a value, by its name.
        consumers: who reads a value, by its name.
        outputs: names of the graph's outputs.
    """

    graph: Graph
    makers: Mapping[str, Node]
    consumers: Consumers
    outputs: frozenset[str]

    @classmethod
    def of(cls, graph: Graph) -> "Wiring":
        """Return the wiring of ``graph``."""
        makers = {name: node for node in graph.nodes for name in node.outputs if name}
        return cls(graph, makers, graph.consumers(), frozenset(value.name for value in graph.outputs))

    def after(self, node: Node) -> str:
        """Return the value behind everything that the runtime takes into a node."""
        bounded = self.bounded(node)
        return (bounded or normalization_of(self.graph, self.consumers, node) or node).outputs[0]

    def bounded(self, node: Node) -> Node | None:
        """Return the Relu or Clip that the runtime takes into a node."""
        value = (normalization_of(self.graph, self.consumers, node) or node).outputs[0]
        readers = self.consumers.get(value, [])
        if len(readers) != 1 or value in self.outputs:
            return None
        reader, position = readers[0]
        is_outside = self.makers.get(reader.outputs[0]) is reader  # and not in a subgraph
        return reader if reader.op in _FUSED and position == 0 and is_outside else None

    def moves(self, node: Node) -> bool:
        """Return whether a node makes nothing but values that its first input has, or zeros."""
        if node.domain or node.op not in _MOVING:
            return False
        if node.op == "Pad":
            filling = node.inputs[2] if len(node.inputs) > 2 else ""
            is_zero = not filling or (filling in self.graph.initializers and not self.graph.initializers[filling].any())
            return node.attributes.get("mode", "constant") == "constant" and is_zero and node.since >= 11
        if node.op == "Resize":
            # What mode linear makes would fit the grid, but the runtime (1.31.1) does so in float unless the file has
            # it on levels. Then it cuts fractions off, half a level too low on average (a Conv on either side: 2.3 % of
            # error in place of 1.8 %), and is slower: 0.92 ms for 64 channels from 32x32 to 64x64, in float 0.43 ms
            # with the rounding before and after it.
            return node.attributes.get("mode", "nearest") == "nearest"
        return not any(name in self.consumers or name in self.outputs for name in node.outputs[1:] if name)


def rounded_values(graph: Graph, kernels: Mapping[str, str]) -> dict[str, str]:
    """Return every value that is rounded to 8 bits, in the order of the graph, and the value whose grid it takes.

    That is the input of every node of a ``STATIC`` kernel, and the output of every such Conv, which ONNX Runtime
    executes in integers only when the output is rounded too; where a normalization, a Relu or a Clip follows, the value
    after it. Then what lies between such values in operators that the runtime has in integers.

    What is moved has the grid of where it comes from. What a Concat alone reads has the Concat's: its parts are then
    copied as they are.

    Args:
        graph: the model.
        kernels: by node name.
    """
    wiring, found = Wiring.of(graph), set[str]()
    for node in graph.nodes:
        if kernels.get(node.name) in STATIC:
            found.add(node.inputs[0])
            if node.op == "Conv":
                found.add(wiring.after(node))
    if not found:
        return {}
    found |= _between(wiring, found)
    order = [value.name for value in graph.inputs] + [name for node in graph.nodes for name in node.outputs]
    sources = {name: _source(wiring, name, found) for name in order if name in found}
    return {name: _root(name, sources) for name in sources}


def _between(wiring: Wiring, rounded: set[str]) -> set[str]:
    """Return the values on every way from a rounded value to a rounded one through operators of a run."""
    operands: dict[str, tuple[str, ...]] = {}
    for node in wiring.graph.nodes:
        if wiring.moves(node):
            operands[node.outputs[0]] = node.inputs[:1]
        elif not node.domain and node.op in _INTEGER:
            operands[wiring.after(node)] = node.inputs[: _INTEGER[node.op]]
    reached = set(rounded)
    for value, names in operands.items():  # in the order of the graph
        if reached.issuperset(names):
            reached.add(value)
    # What sums or joins rounded values ends a run with one value to go back to float, in place of several.
    joints = {value for value, names in operands.items() if len(set(names)) > 1 and reached.issuperset(names)}
    wanted = rounded | joints - wiring.outputs
    for value, names in reversed(operands.items()):
        if value in wanted and reached.issuperset(names):
            wanted.update(names)
    return wanted - rounded


def _source(wiring: Wiring, name: str, found: set[str]) -> str:
    """Return the value whose grid ``name`` takes, one step away; itself where it has its own."""
    maker = wiring.makers.get(name)
    if maker is not None and wiring.moves(maker):
        return maker.inputs[0] if maker.inputs[0] in found else name
    readers = wiring.consumers.get(name, [])
    if len(readers) == 1 and readers[0][0].op == "Concat" and readers[0][0].outputs[0] in found:
        return readers[0][0].outputs[0]
    return name


def _root(name: str, sources: Mapping[str, str]) -> str:
    while sources[name] != name:
        name = sources[name]
    return name
