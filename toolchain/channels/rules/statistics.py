"""Normalisation, pooling and reductions: what is computed per channel, and what mixes channels."""

from toolchain.channels.rules.common import Rule, carry_all, integer, integers, is_given
from toolchain.channels.space import Role, Space
from toolchain.graph import Node


def batch_normalization(node: Node, space: Space) -> None:
    """Per channel, by statistics of the training data."""
    if integer(node, "training_mode", 0) or not integer(node, "spatial", 1):
        return
    x, output = node.inputs[0], node.outputs[0]
    for axis in range(len(space.shape(x))):
        space.carry((x, axis), (output, axis))
    roles: tuple[Role, ...] = ("makes", "makes", "rides", "rides")
    for name, role in zip(node.inputs[1:], roles, strict=True):
        space.carry((name, 0), (output, 1), role)
    space.silent((output, 1), [(name, 0) for name in node.inputs[1:3]])


def instance_normalization(node: Node, space: Space) -> None:
    """Per sample and channel."""
    x, output = node.inputs[0], node.outputs[0]
    for axis in range(2):
        space.carry((x, axis), (output, axis))
    for name in node.inputs[1:3]:
        space.carry((name, 0), (output, 1), "makes")
    space.silent((output, 1), [(name, 0) for name in node.inputs[1:3]])


def group_normalization(node: Node, space: Space) -> None:
    """Per group of channels, which goes as a whole."""
    instance_normalization(node, space)
    channels = space.at((node.outputs[0], 1)).reshape(integer(node, "num_groups", 1), -1)
    space.link(channels, channels[:, :1])


def layer_normalization(node: Node, space: Space) -> None:
    """Over all dimensions from ``axis`` on."""
    rank = len(space.shape(node.inputs[0]))
    for axis in range(integer(node, "axis", -1) % rank):
        space.carry((node.inputs[0], axis), (node.outputs[0], axis))


def local_response(node: Node, space: Space) -> None:
    """Over neighbouring channels."""
    rank = len(space.shape(node.inputs[0]))
    carry_all(space, node.inputs[0], node.outputs[0], [axis for axis in range(rank) if axis != 1])


def lp_normalization(node: Node, space: Space) -> None:
    """By the norm over one dimension, to which zeros add nothing."""
    rank = len(space.shape(node.inputs[0]))
    carry_all(space, node.inputs[0], node.outputs[0], range(rank))
    space.sum_over(node, (node.inputs[0], integer(node, "axis", -1) % rank))


def over_one(node: Node, space: Space) -> None:
    """Along ``axis``, and independently of the other dimensions; zeros need not stay zero."""
    rank = len(space.shape(node.inputs[0]))
    for axis in set(range(rank)) - {integer(node, "axis", -1) % rank}:
        for output in filter(None, node.outputs):
            space.carry((node.inputs[0], axis), (output, axis))


def softmax(node: Node, space: Space) -> None:
    """Along ``axis``; up to version 12 along all dimensions from there on."""
    rank = len(space.shape(node.inputs[0]))
    if node.since >= 13:
        over_one(node, space)
        return
    for axis in range(integer(node, "axis", 1) % rank):
        space.carry((node.inputs[0], axis), (node.outputs[0], axis))


def cumulative(node: Node, space: Space) -> None:
    """Along a dimension that an input names."""
    rank, over = len(space.shape(node.inputs[0])), integers(space.trace, node, 1, "axis")
    if over is not None:
        carry_all(space, node.inputs[0], node.outputs[0], [axis for axis in range(rank) if axis != over[0] % rank])


def pooling(node: Node, space: Space) -> None:
    """Per sample and channel; the indices that MaxPool may give count channels too."""
    if not any(node.outputs[1:]):
        carry_all(space, node.inputs[0], node.outputs[0], range(2))


def reduction(node: Node, space: Space) -> None:
    """Over some dimensions; the others stay apart."""
    _reduce(node, space, sums=False, keeps_zero=node.op not in ("ReduceLogSum", "ReduceLogSumExp"))


def summation(node: Node, space: Space) -> None:
    """Over some dimensions, in which zeros add nothing."""
    _reduce(node, space, sums=True, keeps_zero=True)


def _reduce(node: Node, space: Space, sums: bool, keeps_zero: bool) -> None:
    x, output = node.inputs[0], node.outputs[0]
    rank, over = len(space.shape(x)), integers(space.trace, node, 1, "axes")
    if over is None and is_given(node, 1):
        return
    if node.op in ("ArgMax", "ArgMin"):
        over, keeps_zero = [integer(node, "axis", 0)], False
    if not over:
        over = [] if integer(node, "noop_with_empty_axes", 0) else list(range(rank))
    gone = {axis % rank for axis in over}
    if sums:
        for axis in gone:
            space.sum_over(node, (x, axis))
    kept = [axis for axis in range(rank) if axis not in gone]
    for place, axis in enumerate(kept):
        target = (output, axis if integer(node, "keepdims", 1) else place)
        space.carry((x, axis), target)
        if keeps_zero:
            space.silent(target, [(x, axis)])


RULES: dict[tuple[str, str], Rule] = {
    ("", "ArgMax"): reduction,
    ("", "ArgMin"): reduction,
    ("", "AveragePool"): pooling,
    ("", "BatchNormalization"): batch_normalization,
    ("", "CumSum"): cumulative,
    ("", "GlobalAveragePool"): pooling,
    ("", "GlobalLpPool"): pooling,
    ("", "GlobalMaxPool"): pooling,
    ("", "GridSample"): pooling,
    ("", "GroupNormalization"): group_normalization,
    ("", "Hardmax"): softmax,
    ("", "InstanceNormalization"): instance_normalization,
    ("", "LRN"): local_response,
    ("", "LayerNormalization"): layer_normalization,
    ("", "LogSoftmax"): softmax,
    ("", "LpNormalization"): lp_normalization,
    ("", "LpPool"): pooling,
    ("", "MaxPool"): pooling,
    ("", "RMSNormalization"): layer_normalization,
    ("", "ReduceL1"): summation,
    ("", "ReduceL2"): summation,
    ("", "ReduceLogSum"): reduction,
    ("", "ReduceLogSumExp"): reduction,
    ("", "ReduceMax"): reduction,
    ("", "ReduceMean"): reduction,
    ("", "ReduceMin"): reduction,
    ("", "ReduceProd"): reduction,
    ("", "ReduceSum"): summation,
    ("", "ReduceSumSquare"): summation,
    ("", "SimplifiedLayerNormalization"): layer_normalization,
    ("", "Softmax"): softmax,
    ("", "TopK"): over_one,
}
