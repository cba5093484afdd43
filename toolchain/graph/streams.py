"""Residual streams: values that are added channel by channel, so that their channels had better lie in one order."""

from toolchain.graph.model import Graph

# Operators that do the same to every channel of their first input, behind which a Gather of channels may be moved.
CHANNELWISE = frozenset(
    ("AveragePool", "Clip", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "MaxPool", "Relu", "Sigmoid", "Tanh")
)

# Operators whose output has the channels of their first input.
_KEEPING = CHANNELWISE | {
    *("BatchNormalization", "Dropout", "Elu", "Gelu", "InstanceNormalization", "Mish", "PRelu", "Selu", "Softplus"),
}


def find_streams(graph: Graph) -> dict[str, str]:
    """Return the stream of every value that a sum takes or makes, also through what treats all channels alike.

    Returns:
        By value name, the name of one value of the stream. What is added to a constant alone is in none.
    """
    above: dict[str, str] = {}

    def root(name: str) -> str:
        while name in above:
            name = above[name]
        return name

    def join(first: str, second: str) -> None:
        left, right = root(first), root(second)
        if left != right:
            above[right] = left

    sums = []
    for node in graph.nodes:
        if node.domain:
            continue
        if node.op == "Add" and not graph.initializers.keys() & set(node.inputs):
            join(node.inputs[0], node.inputs[1])
            join(node.inputs[0], node.outputs[0])
            sums.append(node.outputs[0])
        elif node.op in _KEEPING:
            join(node.inputs[0], node.outputs[0])
    summed = {root(name) for name in sums}
    names = {name for node in graph.nodes for name in (*node.inputs, *node.outputs) if name}
    return {name: root(name) for name in names if root(name) in summed}
