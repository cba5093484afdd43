import itertools

import pytest
import torch

from passes.constraints import Budget, TopK
from toolchain.formats import TensorFormat
from toolchain.graph.layout import Layout
from toolchain.structures import Structure

LAYOUT = Layout((2, 8, 1, 2), 0, 1, (2, 3))
TWO_OF_FOUR = Structure("n:m", (2, 4))


def mask_of(weight, kept, structure=TWO_OF_FOUR, layout=LAYOUT):
    return TopK((Budget(("w",), kept, structure),), layouts={"w": layout}).fit({"w": weight}, {}, {})["w"].mask


@pytest.mark.parametrize("seed", range(5))
def test_every_four_inputs_keep_their_two_largest(seed):
    weight = torch.randn(LAYOUT.shape, generator=torch.Generator().manual_seed(seed))
    mask = mask_of(weight, 16)
    fours = weight.reshape(2, 2, 4, 2).permute(0, 1, 3, 2).reshape(-1, 4)
    best = sum(
        max(float(four[list(pair)].square().sum()) for pair in itertools.combinations(range(4), 2)) for four in fours
    )
    assert float(weight[mask].square().sum()) == pytest.approx(best)
    assert bool((mask.reshape(2, 2, 4, 2).sum(2) == 2).all())


def test_inputs_of_a_matrix_run_along_its_first_dimension():
    weight = torch.arange(1.0, 25.0).view(8, 3)
    mask = mask_of(weight, 12, layout=Layout((8, 3), 1, 0))
    assert mask.nonzero()[:, 0].unique().tolist() == [2, 3, 6, 7]


def test_a_larger_budget_keeps_two_of_four_and_the_largest_of_the_rest():
    weight = torch.randn(LAYOUT.shape, generator=torch.Generator().manual_seed(0))
    inside, mixed = mask_of(weight, 16), mask_of(weight, 20)
    assert not bool((inside & ~mixed).any())
    added = weight.abs()[mixed & ~inside]
    assert float(added.min()) >= float(weight.abs()[~mixed].max())


def test_any_n_and_m_divide_a_tensor():
    weight = torch.randn(5, 9)
    mask = mask_of(weight, 30, Structure("n:m", (2, 3)), Layout((5, 9), 0, 1))
    assert bool((mask.view(5, 3, 3).sum(2) == 2).all())


def test_what_an_earlier_pass_pruned_makes_no_room_for_a_third_of_four():
    generator = torch.Generator().manual_seed(0)
    weight, mask = torch.randn(8, 16, generator=generator), torch.rand(8, 16, generator=generator) < 0.5
    layouts, fixed = {"w": Layout((8, 16), 0, 1)}, {"w": TensorFormat(mask)}
    found = TopK((Budget(("w",), weight.numel() // 2, TWO_OF_FOUR),), layouts=layouts).fit({"w": weight}, fixed, {})[
        "w"
    ]
    runs, alive = found.mask.view(8, 4, 4).sum(2), mask.view(8, 4, 4).sum(2)
    assert torch.equal(runs, alive.clamp_max(2))
