"""What holds of every set, over random tensors, ties and earlier masks included."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from passes.constraints import SCORES, Budget, TopK
from toolchain.formats import Grid, TensorFormat
from toolchain.graph.layout import Layout
from toolchain.structures import bounds, objection, parse_structure

CONV = Layout((64, 32, 3, 3), 0, 1, (2, 3))
SMALL = Layout((6, 8, 3, 3), 0, 1, (2, 3))
GROUPED = Layout((8, 4, 3, 3), 0, 1, (2, 3), groups=2)
DEPTHWISE = Layout((12, 1, 3, 3), 0, 1, (2, 3), groups=12)
TRANSPOSED = Layout((8, 3, 3, 3), 1, 0, (2, 3), groups=2)
MATRIX = Layout((36, 40), 1, 0)
ROWS = Layout((7, 12), 0, 1)
BATCHED = Layout((2, 8, 5), 2, 1)
LAYOUTS = (CONV, SMALL, GROUPED, DEPTHWISE, TRANSPOSED, MATRIX, ROWS, BATCHED)
NAMES = ["unstructured", "column", "2:4", "1:2", "pattern", "groups", "groups4"]
BLOCKS = ["block1x4", "block4x1", "block4x4", "block1x16"]
STRUCTURES = tuple(parse_structure(name) for name in NAMES + BLOCKS)


@st.composite
def problems(draw):
    """Return a structure, tensors that it applies to, and a count of kept weights that it can reach."""
    structure = draw(st.sampled_from(STRUCTURES))
    usable = [layout for layout in LAYOUTS if not objection(structure, layout)]
    layouts = {
        f"w{i}": layout for i, layout in enumerate(draw(st.lists(st.sampled_from(usable), min_size=1, max_size=3)))
    }
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    tied = draw(st.booleans())
    weights = {}
    for name, layout in layouts.items():
        values = torch.randn(layout.shape, generator=generator)
        weights[name] = values.sign() * (values.abs() > 0.5) if tied else values
    limits = [bounds(structure, layout) for layout in layouts.values()]
    kept = draw(st.integers(sum(low for low, _ in limits), sum(high for _, high in limits)))
    return structure, layouts, weights, kept, generator


def fitted(problem, score="magnitude", fixed=None):
    structure, layouts, weights, kept, _ = problem
    return TopK((Budget(tuple(weights), kept, structure),), score, layouts).fit(weights, fixed or {}, {})


@settings(deadline=None, max_examples=150)
@given(problems(), st.sampled_from(sorted(SCORES)))
def test_the_asked_number_of_weights_is_kept_exactly_whatever_the_ties(problem, score):
    formats = fitted(problem, score)
    assert sum(int(found.mask.sum()) for found in formats.values()) == problem[3]
    assert all(bool(found.mask.any()) for found in formats.values())


@settings(deadline=None, max_examples=150)
@given(problems(), st.sampled_from(["curvature", "lamp", "magnitude"]))  # the mean of a tensor changes, "normalised"
def test_projecting_twice_changes_nothing(problem, score):
    structure, layouts, weights, kept, _ = problem
    once = {name: found.project(weights[name]) for name, found in fitted(problem, score).items()}
    again = fitted((structure, layouts, once, kept, None), score)
    lost = sum(int((found.project(once[name]) != once[name]).sum()) for name, found in again.items())
    # In groups of which the last channel is kept in part, zeros inside others leave open which outputs were together.
    open_ended = structure.kind == "groups" and any(bool((weight == 0).any()) for weight in weights.values())
    assert lost <= (kept // 1000 if open_ended else 0)


@settings(deadline=None, max_examples=100)
@given(problems(), st.floats(0.1, 1.0))
def test_what_an_earlier_pass_pruned_stays_pruned_and_its_grid_stays(problem, share):
    structure, _, weights, kept, generator = problem
    grid = Grid((-1, 1), torch.tensor(0.5))
    fixed = {n: TensorFormat(torch.rand(w.shape, generator=generator) < share, grid) for n, w in weights.items()}
    left = sum(int(earlier.mask.sum()) for earlier in fixed.values())
    try:
        formats = fitted(problem, fixed=fixed)
    except ValueError:
        assert kept < left
        return
    for name, found in formats.items():
        assert not bool((found.mask & ~fixed[name].mask).any())
        assert found.grid is grid
    count = sum(int(found.mask.sum()) for found in formats.values())
    assert count <= kept
    if structure.kind not in ("n:m", "pattern"):
        assert count == min(kept, left)


@pytest.mark.parametrize("structure", STRUCTURES, ids=str)
def test_a_larger_budget_never_has_a_larger_error(structure):
    layout = next(layout for layout in LAYOUTS if not objection(structure, layout))
    weight = torch.randn(layout.shape, generator=torch.Generator().manual_seed(1))
    low, high = bounds(structure, layout)
    errors = []
    for kept in sorted({low, (low + high) // 2, high}):
        found = fitted((structure, {"w": layout}, {"w": weight}, kept, None))["w"]
        errors.append(float((found.project(weight) - weight).square().sum()))
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("structure", STRUCTURES, ids=str)
def test_a_weight_that_moves_the_loss_is_worth_more(structure):
    layout = next(layout for layout in LAYOUTS if not objection(structure, layout))
    curvature = torch.full(layout.shape, 1e-8)
    low, high = bounds(structure, layout)
    kept = (low + high) // 2
    first = TopK((Budget(("w",), kept, structure),), "curvature", {"w": layout})
    weight = torch.ones(layout.shape)
    unmoved = first.fit({"w": weight}, {}, {"w": curvature})["w"].mask
    curvature[~unmoved] = 1.0
    moved = first.fit({"w": weight}, {}, {"w": curvature})["w"].mask
    assert int((moved & ~unmoved).sum()) > kept // 4


def test_the_error_per_removed_weight_decides_between_units_of_different_sizes():
    layouts = {"small": Layout((2, 4), 0, 1), "large": Layout((8, 4), 0, 1)}
    weights = {
        "small": torch.full((2, 4), 2.0),
        "large": torch.full((8, 4), 1.1),
    }  # a column: 8.0 and 9.7, 4 and 1.2 each
    budget = Budget(("small", "large"), 8 + 8, parse_structure("column"))
    formats = TopK((budget,), layouts=layouts).fit(weights, {}, {})
    assert [int(formats[name].mask.sum()) for name in weights] == [8, 8]


@pytest.mark.parametrize(("score", "both_stay"), [("magnitude", False), ("curvature", True), ("lamp", True)])
def test_units_of_a_tensor_of_small_weights_are_compared_within_it_unless_by_magnitude(score, both_stay):
    layouts = {name: Layout((8, 32), 0, 1) for name in ("small", "large")}
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: (1 + torch.rand(8, 32, generator=generator)) * scale for name, scale in (("small", 0.1), ("large", 1.0))
    }
    curvature = {name: torch.ones(8, 32) for name in weights}
    budget = Budget(("small", "large"), 32 * 8, parse_structure("column"))
    formats = TopK((budget,), score, layouts).fit(weights, {}, curvature)
    assert (int(formats["small"].mask.sum()) > 10 * 8) == both_stay


def brute_force(weight, masks):
    """Return the least squared error over all masks."""
    return min(float(weight[~mask].square().sum()) for mask in masks)


def masks_of_units(numbers, units):
    for chosen in itertools.combinations(range(int(numbers.max()) + 1), units):
        yield torch.isin(numbers, torch.tensor(chosen))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("grid", [None, Grid((-2, -1, 0, 1, 2), torch.tensor(0.7))], ids=["free", "on a grid"])
@pytest.mark.parametrize(
    ("text", "layout", "numbers", "units"),
    [
        ("column", Layout((3, 6), 0, 1), torch.arange(6)[None].expand(3, 6), 3),
        ("column", Layout((6, 3), 1, 0), torch.arange(6)[:, None].expand(6, 3), 3),
        ("block1x4", Layout((2, 8), 0, 1), torch.arange(4).repeat_interleave(4).view(2, 8), 2),
        ("block4x1", Layout((8, 2), 0, 1), (torch.arange(8) // 4)[:, None] * 2 + torch.arange(2), 3),
        ("block4x4", Layout((8, 12), 0, 1), (torch.arange(8) // 4)[:, None] * 3 + torch.arange(12) // 4, 2),
        ("block1x2", Layout((2, 4, 1, 2), 0, 1, (2, 3)), None, 3),
    ],
)
def test_a_whole_number_of_equal_units_is_the_euclidean_projection(text, layout, numbers, units, grid, seed):
    if numbers is None:  # two inputs of one output at one kernel position
        i, j, x = torch.meshgrid(torch.arange(2), torch.arange(4), torch.arange(2), indexing="ij")
        numbers = ((i * 2 + j // 2) * 2 + x)[:, :, None]
    weight = torch.randn(layout.shape, generator=torch.Generator().manual_seed(seed))
    kept = units * int((numbers == 0).sum())
    fixed = {} if grid is None else {"w": TensorFormat(grid=grid)}
    found = fitted((parse_structure(text), {"w": layout}, {"w": weight}, kept, None), fixed=fixed)["w"]
    error = float((found.project(weight) - weight).square().sum())
    kept_as = weight if grid is None else grid.dequantize(grid.quantize(weight))
    masks = masks_of_units(numbers, units)
    best = min(float((torch.where(mask, kept_as, 0.0) - weight).square().sum()) for mask in masks)
    assert error == pytest.approx(best, rel=1e-5)


def subsets(count, kept):
    """Return the mask of every choice of ``kept`` of ``count`` weights, bool ``[choices, count]``."""
    chosen = torch.tensor(list(itertools.combinations(range(count), kept)))
    return torch.zeros(len(chosen), count, dtype=torch.bool).scatter_(1, chosen, True)


@pytest.mark.parametrize("seed", range(3))
def test_single_weights_of_several_tensors_are_the_euclidean_projection(seed):
    generator = torch.Generator().manual_seed(seed)
    weights = {"a": torch.randn(2, 3, generator=generator), "b": 3 * torch.randn(5, generator=generator)}
    formats = TopK((Budget(("a", "b"), 4),)).fit(weights, {}, {})
    error = sum(float((formats[name].project(weight) - weight).square().sum()) for name, weight in weights.items())
    both = torch.cat([weight.flatten() for weight in weights.values()])
    allowed = (mask for mask in subsets(11, 4) if mask[:6].any() and mask[6:].any())  # no tensor vanishes
    assert error == pytest.approx(brute_force(both, allowed), rel=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_on_an_earlier_grid_it_is_the_projection_onto_both_sets(seed):
    weight = torch.randn(10, generator=torch.Generator().manual_seed(seed))
    grid = Grid((-2, -1, 1, 2), torch.tensor(0.7))  # of what is near to zero, little is gained by keeping it
    found = TopK((Budget(("w",), 4),)).fit({"w": weight}, {"w": TensorFormat(grid=grid)}, {})["w"]
    level = grid.dequantize(grid.quantize(weight))
    errors = [(torch.where(mask, level, 0.0) - weight).square().sum() for mask in subsets(10, 4)]
    assert float((found.project(weight) - weight).square().sum()) == pytest.approx(float(min(errors)), rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_given_who_is_in_which_group_it_is_the_euclidean_projection(seed):
    layout = Layout((8, 6), 0, 1)  # too narrow for more than one group
    weight = torch.randn(layout.shape, generator=torch.Generator().manual_seed(seed))
    structure = parse_structure("groups1")
    found = fitted((structure, {"w": layout}, {"w": weight}, 3 * 8, None))["w"]
    error = float((found.project(weight) - weight).square().sum())
    assert error == pytest.approx(brute_force(weight, masks_of_units(torch.arange(6).expand(8, 6), 3)), rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_units_of_unequal_size_miss_the_best_choice_by_less_than_one_unit(seed):
    layout = Layout((2, 10), 0, 1)  # blocks of 4, 4 and 2
    weight = torch.randn(layout.shape, generator=torch.Generator().manual_seed(seed))
    numbers = torch.tensor([[0] * 4 + [1] * 4 + [2] * 2, [3] * 4 + [4] * 4 + [5] * 2])
    found = fitted((parse_structure("block1x4"), {"w": layout}, {"w": weight}, 11, None))["w"]
    masks = (mask for units in range(6) for mask in masks_of_units(numbers, units) if int(mask.sum()) <= 11)
    largest = max(float(weight[numbers == unit].square().sum()) for unit in range(6))
    assert float((found.project(weight) - weight).square().sum()) <= brute_force(weight, masks) + largest
