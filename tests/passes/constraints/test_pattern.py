import pytest
import torch

from passes.constraints import Budget, TopK
from passes.constraints.pattern import find_library
from toolchain.formats import TensorFormat
from toolchain.graph.layout import Layout
from toolchain.structures import Structure

LAYOUT = Layout((16, 8, 3, 3), 0, 1, (2, 3))
PATTERN = Structure("pattern")


def mask_of(weight, kept):
    return TopK((Budget(("w",), kept, PATTERN),), layouts={"w": LAYOUT}).fit({"w": weight}, {}, {})["w"].mask


@pytest.fixture
def weight():
    return torch.randn(LAYOUT.shape, generator=torch.Generator().manual_seed(0))


def test_kernels_take_one_of_eight_patterns_or_none(weight):
    kernels = mask_of(weight, 4 * 50).view(-1, 9)
    kept = kernels[kernels.any(1)]
    assert len(kept) == 50
    assert bool((kept.sum(1) == 4).all())
    assert len(kept.unique(dim=0)) <= 8


def test_given_the_library_no_other_pattern_and_no_other_kernel_holds_more(weight):
    energy = weight.square().view(-1, 9)
    best = (energy @ find_library(energy).float().T).amax(1)
    held = float(weight[mask_of(weight, 4 * 50)].square().sum())
    assert held == pytest.approx(float(best.sort().values[-50:].sum()), rel=1e-5)


def test_the_library_holds_the_patterns_that_most_kernels_take():
    corner, bar = torch.tensor([1.0, 1, 0, 1, 1, 0, 0, 0, 0]), torch.tensor([0.0, 1, 0, 0, 1, 0, 0, 1, 1])
    kernels = torch.stack([corner] * 3 + [bar] * 5) + 0.01 * torch.rand(8, 9)
    assert [pattern.float().tolist() for pattern in find_library(kernels)[:2]] == [bar.tolist(), corner.tolist()]


def test_where_few_patterns_occur_the_library_is_filled_by_what_is_still_outside():
    kernels = torch.tensor([[1.0, 1, 1, 1, 0, 0, 0, 0, 0]] * 9 + [[0.0, 0, 0, 0, 0, 0, 5, 5, 5]])
    library = find_library(kernels)
    assert len(library) == 8
    assert bool(library[1][6:].all())


def test_a_larger_budget_than_all_patterns_hold_keeps_the_largest_of_the_rest(weight):
    inside = mask_of(weight, 16 * 8 * 4)
    mixed = mask_of(weight, 16 * 8 * 4 + 30)
    assert int(mixed.sum()) == 16 * 8 * 4 + 30
    assert not bool((inside & ~mixed).any())


def test_what_an_earlier_pass_pruned_makes_no_room_for_weights_outside_of_patterns(weight):
    mask = torch.rand(weight.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    kernels = weight.numel() // 9
    budget = Budget(("w",), 4 * kernels, PATTERN)
    found = TopK((budget,), layouts={"w": LAYOUT}).fit({"w": weight}, {"w": TensorFormat(mask)}, {})["w"]
    assert int(found.mask.view(kernels, 9).sum(1).max()) <= 4
