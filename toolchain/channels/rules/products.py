"""Convolutions and matrix products: they take channels of one kind and make channels of another."""

from toolchain.channels.rules.common import Rule, behind, carry_all, integer, is_given
from toolchain.channels.space import Axis, Space
from toolchain.graph import Node

# Activations of FusedConv that leave zero as it is.
_KEEP_ZERO = {"", "Relu", "LeakyRelu", "Tanh"}


def convolution(node: Node, space: Space) -> None:
    """Weights [C_out, C_in / group, ...]."""
    x, weight, output = node.inputs[0], node.inputs[1], node.outputs[0]
    makers: list[Axis | None] = [(weight, 0)]
    space.carry((weight, 0), (output, 1), "makes")
    carry_all(space, x, output, [0])
    groups, inside = integer(node, "group", 1), space.shape(weight)[1]
    taken = space.at((x, 1)).reshape(groups, inside)
    made = space.at((output, 1)).reshape(groups, -1)
    if _whole(groups, inside):
        space.link(taken, made[:, :1])
        space.link(made, made[:, :1])
    else:
        space.link(taken, space.at((weight, 1)))
        space.link(made, made[:1])
        space.sum_over(node, (x, 1), (weight, 1))
    if is_given(node, 2):
        space.carry((node.inputs[2], 0), (output, 1), "makes")
        makers.append((node.inputs[2], 0))
    if is_given(node, 3):  # FusedConv adds it
        for axis in range(2):
            space.carry((node.inputs[3], axis), (output, axis), "makes")
        makers.append((node.inputs[3], 1))
    if node.attributes.get("activation", "") in _KEEP_ZERO:
        space.silent((output, 1), makers)


def transposed_convolution(node: Node, space: Space) -> None:
    """Weights [C_in, C_out / group, ...]."""
    x, weight, output = node.inputs[0], node.inputs[1], node.outputs[0]
    makers: list[Axis | None] = [(weight, 1)]
    carry_all(space, x, output, [0])
    groups, outside = integer(node, "group", 1), space.shape(weight)[1]
    taken = space.at((x, 1)).reshape(groups, -1)
    made = space.at((output, 1)).reshape(groups, outside)
    space.carry((weight, 0), (x, 1))
    if _whole(groups, taken.shape[1]):
        space.link(taken, taken[:, :1])
        space.link(made, taken[:, :1])
        space.give_role((weight, 0), (output, 1), "makes")
        makers = [(weight, 0)]
    else:
        space.link(taken, taken[:1])
        space.link(made, space.at((weight, 1)))
        space.give_role((weight, 1), (output, 1), "makes")
        space.sum_over(node, (x, 1), (weight, 0))
    if is_given(node, 2):
        space.carry((node.inputs[2], 0), (output, 1), "makes")
        makers.append((node.inputs[2], 0))
    space.silent((output, 1), makers)


def _whole(groups: int, inside: int) -> bool:
    """Return whether groups go as a whole, as those of depthwise convolutions do: where they are many and small.

    Else the same channels go from every group. Either way all groups stay of one size.
    """
    return groups > 1 and groups >= inside


def gemm(node: Node, space: Space) -> None:
    """``A [M, K] @ B [K, N] + C``, each of the two perhaps transposed."""
    a, b, output = node.inputs[0], node.inputs[1], node.outputs[0]
    rows = 1 if integer(node, "transA", 0) else 0
    columns = 0 if integer(node, "transB", 0) else 1
    _contract(node, space, (a, 1 - rows), (b, 1 - columns))
    for axis, source in enumerate([(a, rows), (b, columns)]):
        space.carry(source, (output, axis), "makes")
        makers: list[Axis | None] = [source]
        if is_given(node, 2):
            makers.append(behind(space, node.inputs[2], output, axis))
            if bias := makers[-1]:
                space.carry(bias, (output, axis), "makes")
        space.silent((output, axis), makers)


def matmul(node: Node, space: Space) -> None:
    """``A [.., M, K] @ B [.., K, N]``: leading dimensions are broadcast, and a vector lacks M or N."""
    a, b, output = node.inputs[0], node.inputs[1], node.outputs[0]
    rank_a, rank_b, rank = (len(space.shape(name)) for name in (a, b, output))
    _contract(node, space, (a, rank_a - 1), (b, max(rank_b - 2, 0)))
    last = rank
    if rank_b > 1:
        last -= 1
        space.carry((b, rank_b - 1), (output, last), "makes")
        space.silent((output, last), [(b, rank_b - 1)])
    if rank_a > 1:
        last -= 1
        space.carry((a, rank_a - 2), (output, last), "makes")
        space.silent((output, last), [(a, rank_a - 2)])
    for axis in range(last):
        places = [(name, axis - (last - (size - 2))) for name, size in ((a, rank_a), (b, rank_b))]
        same = [place for place in places if place[1] >= 0]
        same = [place for place in same if space.shape(place[0])[place[1]] == space.shape(output)[axis]]
        for place in same:
            space.carry(place, (output, axis), "makes")
        space.silent((output, axis), same, every=False)


def einsum(node: Node, space: Space) -> None:
    """Products over named dimensions; an ellipsis or a diagonal is left to be blocked."""
    equation = str(node.attributes["equation"]).replace(" ", "")
    terms, arrow, result = equation.partition("->")
    operands = terms.split(",")
    if not arrow or "." in equation or any(len(set(term)) < len(term) for term in operands):
        return
    for letter in dict.fromkeys(terms.replace(",", "")):
        places = [
            (name, term.index(letter)) for name, term in zip(node.inputs, operands, strict=True) if letter in term
        ]
        places = [place for place in places if space.shape(place[0])[place[1]] > 1]
        if letter in result:
            target = (node.outputs[0], result.index(letter))
            for place in places:
                space.carry(place, target, "makes")
            space.silent(target, places, every=False)
        elif places:
            for place in places[1:]:
                space.link(space.at(places[0]), space.at(place))
            space.sum_over(node, *places)


def _contract(node: Node, space: Space, one: Axis, other: Axis) -> None:
    space.link(space.at(one), space.at(other))
    space.sum_over(node, one, other)


RULES: dict[tuple[str, str], Rule] = {
    ("", "Conv"): convolution,
    ("", "ConvTranspose"): transposed_convolution,
    ("", "Einsum"): einsum,
    ("", "Gemm"): gemm,
    ("", "MatMul"): matmul,
    ("com.microsoft", "FusedConv"): convolution,
}
