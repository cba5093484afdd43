"""LSTM, GRU and RNN: a hidden unit is a channel, with its rows in every gate."""

import numpy as np

from toolchain.channels.rules.common import Rule, is_given
from toolchain.channels.space import Axis, Space
from toolchain.graph import Node

# How often a hidden unit comes along the rows of B, beside those of W and R, and of P.
_TWICE, _PEEPHOLES = 2, 3

# The default activations: with weights of zero the state stays zero.
_DEFAULT = {"LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"], "RNN": ["tanh"]}


def recurrent(node: Node, space: Space) -> None:
    """W [directions, gates * H, I], R [directions, gates * H, H], B [directions, 2 * gates * H], P, initial states.

    Both directions lose the same units, as they share their tensors.
    """
    x, weight, recurrence = node.inputs[:3]
    output = next(filter(None, node.outputs))
    units = space.at((recurrence, 2))
    gates = space.shape(recurrence)[1] // units.size
    makers: list[Axis | None] = []
    for position, count in ((1, gates), (2, gates), (3, _TWICE * gates)):
        if is_given(node, position):
            rows = (node.inputs[position], 1)
            space.link(space.at(rows), np.tile(units, count))
            space.give_role(rows, (output, 0), "makes")
            makers.append(rows)
    if is_given(node, 7):
        space.link(space.at((node.inputs[7], 1)), np.tile(units, _PEEPHOLES))
    for name in filter(None, node.inputs[5:7]):
        initial = (name, len(space.shape(name)) - 1)
        space.link(space.at(initial), units)
        space.give_role(initial, (output, 0), "makes")
        makers.append(initial)
    features = (x, len(space.shape(x)) - 1)
    space.link(space.at(features), space.at((weight, 2)))
    space.sum_over(node, features, (weight, 2))
    space.sum_over(node, (recurrence, 2))
    given = node.attributes.get("activations")
    names = [str(item).lower() for item in given] if isinstance(given, list) else []
    for name in filter(None, node.outputs):
        state = (name, len(space.shape(name)) - 1)
        space.link(space.at(state), units)
        if names in ([], _DEFAULT[node.op], 2 * _DEFAULT[node.op]):
            space.silent(state, makers)


RULES: dict[tuple[str, str], Rule] = {("", op): recurrent for op in _DEFAULT}
