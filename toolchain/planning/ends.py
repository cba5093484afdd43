"""Which weights are the first and the last on their way through a graph."""

from collections.abc import Collection

from toolchain.graph import Graph


def find_ends(graph: Graph, names: Collection[str]) -> set[str]:
    """Return which of the named tensors come before all others of them, or behind all others, on any way through.

    A model with several inputs or outputs has several of each. A tensor in a subgraph counts with the node that holds
    the subgraph.

    Args:
        graph: in topological order, as graphs are.
        names: initializers.
    """
    wanted = set(names)
    reads = [{name for name in node.reads if name in wanted} for node in graph.nodes]
    behind: set[str] = set()  # values that a named tensor leads to
    first: set[str] = set()
    for node, own in zip(graph.nodes, reads, strict=True):
        if behind.isdisjoint(node.reads):
            first |= own
        if own or not behind.isdisjoint(node.reads):
            behind |= set(node.outputs)
    before: set[str] = set()  # values that lead to a named tensor
    last: set[str] = set()
    for node, own in zip(reversed(graph.nodes), reversed(reads), strict=True):
        if before.isdisjoint(node.outputs):
            last |= own
        if own or not before.isdisjoint(node.outputs):
            before |= set(node.reads)
    return first | last
