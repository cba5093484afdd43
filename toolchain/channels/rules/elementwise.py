"""Operators that compute every element from the elements at its place; operands are broadcast."""

from collections.abc import Sequence

import numpy as np

from toolchain.channels.rules.common import Rule, behind, is_given, is_zero
from toolchain.channels.space import Role, Space
from toolchain.graph import Node


def _elementwise(node: Node, space: Space, operands: Sequence[str], roles: dict[str, Role]) -> None:
    """Link all operands with the output along the dimensions that they do not repeat."""
    output = node.outputs[0]
    for axis in range(len(space.shape(output))):
        for name in operands:
            if source := behind(space, name, output, axis):
                space.carry(source, (output, axis), roles.get(name, "rides"))


def _silence(node: Node, space: Space, sources: Sequence[str], every: bool) -> None:
    output = node.outputs[0]
    heard = [name for name in sources if not (every and is_zero(space, name))]
    for axis in range(len(space.shape(output))):
        space.silent((output, axis), [behind(space, name, output, axis) for name in heard], every)


def _operands(node: Node) -> list[str]:
    return [name for name in node.inputs if name]


def keeps_zero(node: Node, space: Space) -> None:
    """One operand, the others of a few numbers; f(0) = 0."""
    _elementwise(node, space, node.inputs[:1], {})
    _silence(node, space, node.inputs[:1], every=True)


def changes_zero(node: Node, space: Space) -> None:
    """Operands at the same place; the result need not be zero where they are."""
    _elementwise(node, space, _operands(node), {})


def adds(node: Node, space: Space) -> None:
    """Zero where every operand is; constant operands are biases."""
    operands = _operands(node)
    _elementwise(node, space, operands, dict.fromkeys(operands, "makes"))
    _silence(node, space, operands, every=True)


def multiplies(node: Node, space: Space) -> None:
    """Zero where any operand is; constant operands are scales."""
    operands = _operands(node)
    _elementwise(node, space, operands, dict.fromkeys(operands, "makes"))
    _silence(node, space, operands, every=False)


def follows_first(node: Node, space: Space) -> None:
    """Zero where the first operand is, whatever the others are."""
    _elementwise(node, space, _operands(node), {node.inputs[0]: "makes"})
    _silence(node, space, node.inputs[:1], every=True)


def divides(node: Node, space: Space) -> None:
    """Zero where the dividend is; a computed divisor must not be zero there too, as constant ones are kept from it."""
    output, divisor = node.outputs[0], node.inputs[1]
    _elementwise(node, space, _operands(node), {node.inputs[0]: "makes"})
    for axis in range(len(space.shape(output))):
        source = behind(space, divisor, output, axis)
        if source and divisor not in space.fixed:
            space.divisors.append((node, source))
    _silence(node, space, node.inputs[:1], every=True)


def power(node: Node, space: Space) -> None:
    """Zero where the base is, for positive constant exponents."""
    _elementwise(node, space, _operands(node), {node.inputs[0]: "makes"})
    exponent = space.trace.constant(node.inputs[1])
    if exponent is not None and np.all(exponent > 0):
        _silence(node, space, node.inputs[:1], every=True)


def clip(node: Node, space: Space) -> None:
    """Zero where the operand is, if the bounds lie around zero."""
    _elementwise(node, space, node.inputs[:1], {})
    bounds = [node.attributes.get("min"), node.attributes.get("max")]
    for position in (1, 2):
        if is_given(node, position):
            bounds[position - 1] = space.trace.constant(node.inputs[position])
            if bounds[position - 1] is None:
                return
    low, high = (float("nan") if bound is None else np.asarray(bound, np.float64).item() for bound in bounds)
    if not low > 0 and not high < 0:
        _silence(node, space, node.inputs[:1], every=True)


def where(node: Node, space: Space) -> None:
    """Zero where both branches are."""
    condition, *branches = node.inputs
    _elementwise(node, space, [condition, *branches], dict.fromkeys(branches, "makes"))
    _silence(node, space, branches, every=True)


def dropout(node: Node, space: Space) -> None:
    """The identity outside of training; the mask, if asked for, goes along."""
    keeps_zero(node, space)
    for mask in filter(None, node.outputs[1:]):
        for axis in range(len(space.shape(mask))):
            space.carry((mask, axis), (node.outputs[0], axis))


def quantization(node: Node, space: Space) -> None:
    """Scales and zero points run along one dimension, or along blocks of one; a level of zero stands for zero."""
    x, output = node.inputs[0], node.outputs[0]
    _elementwise(node, space, [x], {x: "makes"})
    users = space.consumers.get(output, [])
    if node.op == "DequantizeLinear" or all(use.op == "DequantizeLinear" for use, _ in users):
        _silence(node, space, [x], every=True)
    axis, rank = node.attributes.get("axis", 1), len(space.shape(x))
    for name in filter(None, node.inputs[1:3]):
        shape = space.shape(name)
        if len(shape) == 1 and shape[0] > 1 and isinstance(axis, int) and shape[0] == space.shape(x)[axis % rank]:
            space.carry((name, 0), (output, axis % rank), "rides")
        elif len(shape) == rank:
            for own, size in enumerate(shape):
                if size == space.shape(x)[own]:
                    space.carry((name, own), (output, own), "rides")
            if shape != space.shape(x):
                blocks = [(x, own) for own, size in enumerate(shape) if size != space.shape(x)[own]]
                space.block(blocks, f"{node.op} node {node.name!r} scales blocks of channels")


KEEPING_ZERO = (
    "Abs", "Asin", "Asinh", "Atan", "Atanh", "Cast", "Ceil", "Celu", "Elu", "Erf", "Floor", "Gelu", "HardSwish",
    "Identity", "LeakyRelu", "Mish", "Neg", "Relu", "Round", "Selu", "Sign", "Sin", "Sinh", "Softsign",
    "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu",
)  # fmt: skip

CHANGING_ZERO = (
    "And", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Cos", "Cosh", "Equal", "Exp", "Greater",
    "GreaterOrEqual", "HardSigmoid", "IsInf", "IsNaN", "Less", "LessOrEqual", "Not", "Or", "Shrink", "Sigmoid",
    "Softplus", "Xor",
)  # fmt: skip

RULES: dict[tuple[str, str], Rule] = {
    **{("", op): keeps_zero for op in KEEPING_ZERO},
    **{("", op): changes_zero for op in CHANGING_ZERO},
    ("", "Add"): adds,
    ("", "Clip"): clip,
    ("", "DequantizeLinear"): quantization,
    ("", "Div"): divides,
    ("", "Dropout"): dropout,
    ("", "Max"): adds,
    ("", "Mean"): adds,
    ("", "Min"): adds,
    ("", "Mul"): multiplies,
    ("", "PRelu"): follows_first,
    ("", "Pow"): power,
    ("", "QuantizeLinear"): quantization,
    ("", "Sub"): adds,
    ("", "Sum"): adds,
    ("", "Where"): where,
    ("com.microsoft", "BiasGelu"): adds,
    ("com.microsoft", "FastGelu"): adds,
    ("com.microsoft", "Gelu"): keeps_zero,
    ("com.microsoft", "QuickGelu"): keeps_zero,
}
