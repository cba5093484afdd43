from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from passes.constraints import Budget, TopK
from passes.constraints.groups import assign_groups, fill_groups
from toolchain.graph.layout import Layout
from toolchain.grouping import find_groups
from toolchain.structures import GROUPS

CONV = Layout((64, 128, 3, 3), 0, 1, (2, 3))


def mask_of(weight, kept, layout=CONV):
    return TopK((Budget(("w",), kept, GROUPS),), layouts={"w": layout}).fit({"w": weight}, {}, {})["w"].mask


def planted(shuffle, noise):
    """Return weights of four groups of outputs, each with 32 of 128 channels, and the group of every output."""
    generator = torch.Generator().manual_seed(0)
    group = torch.arange(64) // 16
    if shuffle:
        group = group[torch.randperm(64, generator=generator)]
    supports = torch.stack([torch.randperm(128, generator=generator) < 32 for _ in range(4)])
    weight = torch.randn(CONV.shape, generator=generator)
    return torch.where(supports[group][:, :, None, None], weight, noise * weight), group, supports


@pytest.mark.parametrize("shuffle", [False, True])
def test_outputs_that_need_the_same_inputs_are_found(shuffle):
    weight, group, supports = planted(shuffle, noise=0.3)
    mask = mask_of(weight, 64 * 32 * 9)
    assert torch.equal(mask.all((2, 3)), supports[group])
    assert torch.equal(mask.any((2, 3)), supports[group])


def test_every_group_keeps_equally_many_channels_in_multiples():
    rows = mask_of(torch.randn(CONV.shape), 64 * 48 * 9).any((2, 3))
    assert bool((rows.sum(1) == 48).all())
    assert len(rows.unique(dim=0)) == 4


def test_tensors_whose_outputs_are_added_share_their_groups():
    weights = {"a": planted(shuffle=True, noise=0.3)[0], "b": torch.randn(64, 96, 3, 3), "c": torch.randn(CONV.shape)}
    stream = {"stream": "2"}  # a value's name, and not the number of the third tensor
    layouts = {"a": replace(CONV, **stream), "b": Layout((64, 96, 3, 3), 0, 1, (2, 3), **stream), "c": CONV}
    budget = Budget(tuple(weights), round(0.25 * sum(weight.numel() for weight in weights.values())), GROUPS)
    constraint = TopK((budget,), layouts=layouts)
    formats = constraint.fit(weights, {}, {})
    groups = {name: find_groups(found.mask.any(3).any(2), 4) for name, found in formats.items()}
    assert torch.equal(groups["a"], groups["b"])
    assert not torch.equal(groups["a"], groups["c"])
    again = constraint.fit({name: found.project(weights[name]) for name, found in formats.items()}, {}, {})
    assert all(torch.equal(again[name].mask, found.mask) for name, found in formats.items())


def test_a_count_between_two_steps_is_kept_in_whole_channels_of_the_next_step_but_one():
    mask = mask_of(torch.randn(CONV.shape), 64 * 48 * 9 + 16 * 9 * 2 + 7)
    rows = mask.any((2, 3))
    assert rows.sum(1).min() == 48
    assert int(mask.sum()) == 64 * 48 * 9 + 16 * 9 * 2 + 7
    ragged = mask.any((2, 3)) & ~mask.all((2, 3))
    assert int(ragged.any(0).sum()) <= 1


def test_tensors_whose_channels_are_worth_more_keep_more():
    layouts = {"a": CONV, "b": CONV}
    weights = {"a": torch.randn(CONV.shape), "b": torch.randn(CONV.shape)}
    weights["b"][:, 40:] *= 0.1
    formats = TopK((Budget(("a", "b"), 64 * 128 * 9, GROUPS),), layouts=layouts).fit(weights, {}, {})
    kept = {name: int(found.mask.sum()) for name, found in formats.items()}
    assert kept["a"] > 2 * kept["b"]


@pytest.mark.parametrize("seed", range(3))
def test_regrouping_holds_at_least_what_neighbours_hold(seed):
    energy = torch.rand(32, 64, generator=torch.Generator().manual_seed(seed)) ** 4

    def held(group):
        sums = torch.zeros(4, 64).index_add_(0, group, energy)
        return float(sums.topk(16, dim=1).values.sum())

    assert held(assign_groups(energy, 4, 16)) >= held(torch.arange(32) // 8)


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 99), st.booleans())
def test_groups_are_filled_equally(count, size, seed, tied):
    worth = torch.rand(count * size, count, generator=torch.Generator().manual_seed(seed))
    group = fill_groups(worth.round() if tied else worth)
    assert torch.bincount(group, minlength=count).tolist() == [size] * count


def test_an_output_goes_where_it_loses_least():
    worth = torch.tensor([[9.0, 8.0], [9.0, 1.0]])
    assert fill_groups(worth).tolist() == [1, 0]
