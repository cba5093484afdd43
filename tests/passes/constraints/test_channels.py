import itertools
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from passes.constraints import SCORES, Budget, TopK
from passes.constraints.channels import channels_per_step, keep_channels
from passes.constraints.scores import Cut, Target
from toolchain.formats import Grid, TensorFormat
from toolchain.structures import Structure


def chain(widths, seed, alive=None, flattened=1):
    """Targets of layers one after the other, of matrices [outputs, inputs]; the last one reads each so often."""
    generator = torch.Generator().manual_seed(seed)
    targets = []
    for number, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        last, cuts = number == len(widths) - 2, []
        copies = flattened if last and number else 1
        energy = torch.rand(outputs, inputs * copies, generator=generator)
        kept = torch.ones_like(energy, dtype=torch.bool)
        if alive is not None:
            kept = torch.rand(energy.shape, generator=generator) < alive
        if not last:
            cuts.append(Cut(number, 0, torch.arange(outputs)[:, None], makes=True))
        if number:
            cuts.append(Cut(number - 1, 1, torch.arange(inputs * copies).reshape(inputs, copies)))
        targets.append(
            Target(partial(torch.mul, energy, kept), kept, relative=False, relative_units=True, cuts=tuple(cuts))
        )
    return targets


def channel_counts(targets, masks):
    """Return how many channels of every group have weights left in all that make or read them."""
    found = {}
    for target, mask in zip(targets, masks, strict=True):
        for cut in target.cuts:
            rows = mask.movedim(cut.axis, 0).flatten(1).any(1)[cut.positions].any(1)
            found.setdefault(cut.group, []).append(rows)
    return found


@pytest.mark.parametrize(
    ("positions", "multiple", "expected"),
    [
        ([range(12)], 4, 4),
        ([torch.arange(96).reshape(3, 32)], 8, 1),  # heads of 32
        ([torch.arange(12).reshape(4, 3)], 8, 8),  # heads of 3: eight are a multiple
        ([torch.arange(18).reshape(3, 6)], 8, 4),
        ([torch.arange(12).reshape(4, 3).T], 8, 8),  # one of every group of a convolution
        ([range(12), torch.arange(48).reshape(12, 4)], 8, 8),  # flattened: single ones where they are made
    ],
)
def test_channels_that_are_runs_of_positions_are_fewer_to_a_multiple(positions, multiple, expected):
    cuts = [Cut(0, 0, torch.as_tensor(rows).reshape(len(rows), -1)) for rows in positions]
    assert channels_per_step(cuts, multiple) == expected


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(2, 9), min_size=3, max_size=5),
    st.integers(0, 999),
    st.sampled_from([1, 2, 4]),
    st.floats(0, 1),
    st.integers(1, 3),
)
def test_whole_channels_are_kept_in_multiples_and_no_more_weights_than_asked(widths, seed, multiple, part, flattened):
    targets = chain(widths, seed, flattened=flattened)
    sizes = [widths[0], *(min(width, multiple) for width in widths[1:-1]), widths[-1]]
    inputs = [*sizes[:-2], sizes[-2] * flattened]
    least, most = sum(a * b for a, b in zip(inputs, sizes[1:], strict=True)), sum(t.alive.numel() for t in targets)
    kept = least + round(part * (most - least))
    masks = keep_channels(targets, kept, Structure("channel", (multiple, 1)))
    assert least <= sum(int(mask.sum()) for mask in masks) <= kept
    for group, rows in channel_counts(targets, masks).items():
        assert all(torch.equal(row, rows[0]) for row in rows)
        count = int(rows[0].sum())
        assert count == widths[group + 1] or (count % multiple == 0 and count > 0)
    with pytest.raises(ValueError, match="must stay"):
        keep_channels(targets, least - 1, Structure("channel", (multiple, 1)))


@pytest.mark.parametrize("seed", range(5))
def test_one_group_keeps_the_channels_of_most_energy(seed):
    targets = chain([5, 6, 4], seed)
    masks = keep_channels(targets, 3 * 9, Structure("channel", (1, 1)))
    energy = targets[0].energy.sum(1) + targets[1].energy.sum(0)
    assert masks[0].any(1).nonzero().flatten().tolist() == sorted(energy.argsort(descending=True)[:3].tolist())


def test_where_no_target_makes_a_channel_what_reads_it_judges_a_filter():
    (_, reader) = chain([5, 6, 4], 0)
    (mask,) = keep_channels([reader], 3 * 4, Structure("filter", (1, 1)))
    order = reader.energy.sum(0).argsort(descending=True)
    assert mask.any(0).nonzero().flatten().tolist() == sorted(order[:3].tolist())


@pytest.mark.parametrize("seed", range(5))
def test_a_filter_is_judged_by_what_makes_its_channel(seed):
    targets = chain([5, 6, 4], seed)
    masks = keep_channels(targets, 3 * 9, Structure("filter", (1, 1)))
    order = targets[0].energy.sum(1).argsort(descending=True)
    assert masks[0].any(1).nonzero().flatten().tolist() == sorted(order[:3].tolist())


def test_what_earlier_passes_pruned_stays_and_does_not_count():
    targets = chain([6, 8, 8, 3], 1, alive=0.5)
    masks = keep_channels(targets, 40, Structure("channel", (1, 1)))
    assert sum(int(mask.sum()) for mask in masks) <= 40
    assert not any(bool((mask & ~target.alive).any()) for mask, target in zip(masks, targets, strict=True))


def test_channels_of_equal_worth_are_counted_exactly():
    targets = chain([4, 10, 4], 0)
    tied = [
        Target(partial(torch.ones_like, t.energy), t.alive, relative=False, relative_units=True, cuts=t.cuts)
        for t in targets
    ]
    assert sum(int(mask.sum()) for mask in keep_channels(tied, 56, Structure("channel", (1, 1)))) == 56


def test_a_step_that_is_too_large_leaves_room_that_others_fill():
    small, large = chain([2, 4, 2], 0), chain([50, 4, 50], 1)
    moved = [
        Target(
            partial(torch.mul, t.energy, 100),
            t.alive,
            False,
            True,
            cuts=tuple(Cut(7, c.axis, c.positions) for c in t.cuts),
        )
        for t in large
    ]
    masks = keep_channels([*small, *moved], 316, Structure("channel", (1, 1)))
    assert [int(mask.sum()) for mask in masks] == [8, 8, 150, 150]


def test_tensors_without_channels_stay_whole():
    targets = [*chain([4, 6, 4], 0), Target(partial(torch.ones, 3, 3), torch.ones(3, 3, dtype=torch.bool), False, True)]
    assert bool(keep_channels(targets, 9 + 16, Structure("channel", (1, 1)))[2].all())


@st.composite
def problems(draw):
    """Return layers one after the other, tied or not, and a set of whole channels that they can be projected onto."""
    widths = draw(st.lists(st.integers(2, 9), min_size=3, max_size=5))
    multiple = draw(st.sampled_from([1, 2, 4]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    tied = draw(st.booleans())
    weights, cuts = {}, {}
    for number, target in enumerate(chain(widths, 0)):
        values = torch.randn(target.energy.shape, generator=generator)
        weights[f"w{number}"] = values.sign() if tied else values
        cuts[f"w{number}"] = target.cuts
    left = [widths[0], *(min(width, multiple) for width in widths[1:-1]), widths[-1]]
    low = sum(a * b for a, b in itertools.pairwise(left))
    kept = draw(st.integers(low, sum(weight.numel() for weight in weights.values())))
    budget = Budget(tuple(weights), kept, Structure(draw(st.sampled_from(["channel", "filter"])), (multiple, 1)))
    score = draw(st.sampled_from(sorted(SCORES)))
    return weights, TopK((budget,), score, cuts=cuts), generator


def count(formats):
    return sum(int(found.mask.sum()) for found in formats.values())


@settings(deadline=None, max_examples=100)
@given(problems())
def test_projecting_twice_changes_nothing_and_no_more_is_kept_than_asked_whatever_the_ties(problem):
    weights, constraint, _ = problem
    formats = constraint.fit(weights, {}, {})
    once = {name: found.project(weights[name]) for name, found in formats.items()}
    again = constraint.fit(once, {}, {})
    assert 0 < count(formats) <= constraint.budgets[0].kept
    assert all(torch.equal(once[name], again[name].project(once[name])) for name in once)


@settings(deadline=None, max_examples=100)
@given(problems(), st.floats(0.1, 1.0))
def test_an_earlier_mask_is_only_tightened_and_its_grid_stays(problem, share):
    weights, constraint, generator = problem
    grid = Grid((-1, 1), torch.tensor(0.5))
    fixed = {n: TensorFormat(torch.rand(w.shape, generator=generator) < share, grid) for n, w in weights.items()}
    formats = constraint.fit(weights, fixed, {})
    assert count(formats) <= constraint.budgets[0].kept
    for name, found in formats.items():
        assert not bool((found.mask & ~fixed[name].mask).any())
        assert found.grid is grid
    if count(fixed) <= constraint.budgets[0].kept:
        assert all(torch.equal(found.mask, fixed[name].mask) for name, found in formats.items())


@settings(deadline=None, max_examples=40)
@given(problems())
def test_all_channels_stay_where_the_count_suffices(problem):
    weights, constraint, _ = problem
    budget = constraint.budgets[0]
    every = sum(weight.numel() for weight in weights.values())
    whole = TopK((Budget(budget.names, every, budget.structure),), constraint.score, cuts=constraint.cuts)
    assert count(whole.fit(weights, {}, {})) == every


def energies_of_all_choices(targets, kept):
    """Yield the energy of every choice of whole channels of two groups that keeps no more weights than so many."""
    first, between, last = (target.energy for target in targets)
    ways = [
        [torch.tensor(way) for way in itertools.product([0.0, 1.0], repeat=count) if any(way)]
        for count in between.shape[::-1]
    ]
    for one, two in itertools.product(*ways):
        size = one.sum() * first.shape[1] + two.sum() * one.sum() + last.shape[0] * two.sum()
        if size <= kept:
            yield float(one @ first.sum(1) + two @ between @ one + last.sum(0) @ two)


def test_over_groups_little_energy_is_missed_of_what_the_best_choice_holds():
    missed = []
    for seed, kept in itertools.product(range(12), (20, 30, 45)):
        targets = [replace(target, relative_units=False) for target in chain([4, 5, 5, 3], seed)]
        masks = keep_channels(targets, kept, Structure("channel", (1, 1)))
        held = sum(float(target.energy[mask].sum()) for target, mask in zip(targets, masks, strict=True))
        missed.append(1 - held / max(energies_of_all_choices(targets, kept)))
    assert max(missed) < 0.12
    assert sum(missed) / len(missed) < 0.04
