"""Tensors as stacks of matrices ``[stack, outputs, inputs, positions]``, and back."""

from torch import Tensor

from toolchain.graph.layout import Layout


def to_stack(values: Tensor, layout: Layout) -> Tensor:
    """Return the tensor as ``[stack, outputs, inputs, positions]``."""
    return values.reshape(layout.divided).permute(layout.order).reshape(layout.stack)


def from_stack(stack: Tensor, layout: Layout) -> Tensor:
    """Return what ``to_stack`` was made of."""
    back = sorted(range(len(layout.order)), key=lambda place: layout.order[place])
    ordered = [layout.divided[axis] for axis in layout.order]
    return stack.reshape(ordered).permute(back).reshape(layout.shape)
