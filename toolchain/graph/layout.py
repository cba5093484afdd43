"""Weights as stacks of matrices: which dimension runs over outputs, inputs, kernel positions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod

from toolchain.graph.model import Graph, Node
from toolchain.graph.streams import find_streams
from toolchain.graph.weights import Weight, output_axis

_CONVOLUTIONS = ("Conv", "ConvTranspose", "FusedConv")


@dataclass(frozen=True)
class Layout:
    """How a weight is read as ``[stack, outputs, inputs, positions]``.

    Every matrix of the stack has inputs and outputs of its own: the groups of a convolution, the batch of a product,
    the directions of a recurrent layer. Positions are those of a convolution's kernel.

    Attributes:
        shape: the tensor's dimensions.
        outputs: the dimension of output channels.
        inputs: the dimension of input channels.
        kernel: the dimensions of the kernel; none for a matrix.
        groups: of a convolution; the first dimension runs over the channels of all of them.
        stream: of a convolution, the residual stream that its outputs are added to, by a name; empty where there is
            none.
    """

    shape: tuple[int, ...]
    outputs: int
    inputs: int
    kernel: tuple[int, ...] = ()
    groups: int = 1
    stream: str = ""

    @property
    def divided(self) -> tuple[int, ...]:
        """The shape with its first dimension divided into groups and channels of a group."""
        return (self.groups, self.shape[0] // self.groups, *self.shape[1:])

    @property
    def order(self) -> tuple[int, ...]:
        """The dimensions of ``divided`` in the order of the stack."""
        last = [axis + 1 for axis in (self.outputs, self.inputs, *self.kernel)]
        return (*(axis for axis in range(len(self.divided)) if axis not in last), *last)

    @property
    def stack(self) -> tuple[int, int, int, int]:
        """Number of matrices, outputs, inputs and kernel positions."""
        sizes = [self.divided[axis] for axis in self.order]
        positions = len(self.kernel)
        outputs, inputs = sizes[-2 - positions], sizes[-1 - positions]
        return prod(sizes[: -2 - positions]), outputs, inputs, prod(sizes[len(sizes) - positions :])

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        """Size of the kernel, empty for a matrix."""
        return tuple(self.shape[axis] for axis in self.kernel)


def find_layouts(graph: Graph, weights: Iterable[Weight]) -> dict[str, Layout]:
    """Return the layout of every prunable weight, but for those whose users read them differently."""
    consumers, streams = graph.consumers(), find_streams(graph)
    found = {}
    for weight in weights:
        uses = () if weight.reason else consumers[weight.name]
        layouts = {
            replace(layout, stream=streams.get(node.outputs[0], "")) if layout.kernel else layout
            for node, position in uses
            for layout in [layout_of(node, position, weight.shape)]
        }
        if len(layouts) == 1:
            found[weight.name] = layouts.pop()
    return found


def layout_of(node: Node, position: int, shape: Sequence[int]) -> Layout:
    """Return how a node reads the weight of ``shape`` at an input position."""
    outputs = output_axis(node, position, len(shape))
    if node.op in _CONVOLUTIONS:
        groups = node.attributes.get("group", 1)
        kernel = tuple(range(2, len(shape)))
        return Layout(tuple(shape), outputs, 1 - outputs, kernel, groups if isinstance(groups, int) else 1)
    if node.op in ("GRU", "LSTM", "RNN"):
        return Layout(tuple(shape), outputs, 2)
    return Layout(tuple(shape), outputs, 2 * len(shape) - 3 - outputs)  # the other one of the last two
