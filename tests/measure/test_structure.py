import pytest
import torch

from passes.constraints import Budget, TopK
from toolchain.graph.layout import Layout
from toolchain.measure.structure import find_structure
from toolchain.structures import bounds, objection, parse_structure

CONV = Layout((64, 64, 3, 3), 0, 1, (2, 3))
MATRIX = Layout((512, 260), 1, 0)
NAMES = ["column", "2:4", "1:4", "5:13", "block4x1", "block1x4", "block2x8", "pattern", "groups"]


def pruned(text, layout, part):
    structure = parse_structure(text)
    low, high = bounds(structure, layout)
    kept = low + int((min(high, 0.6 * high) - low) * part) if high > low else low
    weight = torch.randn(layout.shape, generator=torch.Generator().manual_seed(0))
    found = TopK((Budget(("w",), kept, structure),), layouts={"w": layout}).fit({"w": weight}, {}, {})["w"]
    return found.project(weight)


@pytest.mark.parametrize("part", [0.2, 0.51, 0.9])
@pytest.mark.parametrize("layout", [CONV, MATRIX])
@pytest.mark.parametrize("text", [*NAMES, "unstructured"])
def test_a_pruned_tensor_has_the_structure_that_it_was_pruned_to(text, layout, part):
    if objection(parse_structure(text), layout):
        return
    assert find_structure(pruned(text, layout, part), layout) == text


@pytest.mark.parametrize("layout", [CONV, MATRIX])
def test_outputs_without_weights_are_filters(layout):
    weight = torch.randn(layout.shape, generator=torch.Generator().manual_seed(0))
    weight.index_fill_(layout.outputs, torch.arange(0, 60, 3), 0.0)
    assert find_structure(weight, layout) == "filter"


def test_one_zero_too_many_inside_the_others_is_no_structure():
    weight = torch.randn(CONV.shape, generator=torch.Generator().manual_seed(0))
    weight[:23] = 0
    weight[23:63, 0] = 0
    weight[23:63, 1, 0] = 0
    weight[23:43, :, 1, 1] = 0
    assert find_structure(weight, CONV) == "unstructured"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[1.0, 2.0], [3.0, 4.0]], "dense"),
        ([[0.0, 0.0], [3.0, 4.0]], "filter"),
        ([[0.0, 2.0], [0.0, 4.0]], "column"),
        ([[0.0, 2.0, 1.0], [3.0, 4.0, 1.0]], "unstructured"),
        ([[0.0, 0.0], [0.0, 0.0]], "unstructured"),
    ],
)
def test_small_tensors_are_told_apart(values, expected):
    values = torch.tensor(values)
    assert find_structure(values, Layout(tuple(values.shape), 0, 1)) == expected


def test_without_a_layout_zeros_have_no_structure():
    assert find_structure(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), None) == "unstructured"
