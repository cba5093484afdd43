import pytest
import torch

from passes.constraints.stacks import from_stack, to_stack
from toolchain.graph.layout import Layout

LAYOUTS = [
    Layout((6, 4, 3, 2), 0, 1, (2, 3)),
    Layout((6, 4, 3, 2), 0, 1, (2, 3), groups=3),
    Layout((6, 4, 3), 1, 0, (2,), groups=2),
    Layout((5, 7), 1, 0),
    Layout((2, 5, 7), 2, 1),
    Layout((2, 12, 5), 1, 2),
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_stack_goes_back_to_its_tensor(layout):
    values = torch.randn(layout.shape)
    stack = to_stack(values, layout)
    assert stack.shape == layout.stack
    assert torch.equal(from_stack(stack, layout), values)


def test_a_grouped_convolution_is_one_matrix_per_group():
    weight, x = torch.randn(6, 2, 1, 1), torch.randn(1, 6, 1, 1)
    stack = to_stack(weight, Layout((6, 2, 1, 1), 0, 1, (2, 3), groups=3))[..., 0]
    expected = torch.nn.functional.conv2d(x, weight, groups=3).view(3, 2)
    assert torch.allclose((stack @ x.view(3, 2, 1))[..., 0], expected, atol=1e-6)


def test_a_transposed_grouped_convolution_is_one_matrix_per_group():
    weight, x = torch.randn(6, 4, 1, 1), torch.randn(1, 6, 1, 1)
    stack = to_stack(weight, Layout((6, 4, 1, 1), 1, 0, (2, 3), groups=2))[..., 0]
    expected = torch.nn.functional.conv_transpose2d(x, weight, groups=2).view(2, 4)
    assert torch.allclose((stack @ x.view(2, 3, 1))[..., 0], expected, atol=1e-6)
