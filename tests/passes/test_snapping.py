import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from passes.constraints.levels import LevelTarget, fit_grid
from passes.snapping import Snapped
from toolchain.formats import TensorFormat

LEVELS = (-2, -1, 1, 2)


def started(seed, kept, axis=0):
    """Return weights by name and the start of their snapping; with ``kept`` below 1 they are pruned."""
    generator = torch.Generator().manual_seed(seed)
    weights, formats = {}, {}
    for name, shape in {"conv": (8, 3, 3, 3), "matrix": (20, 30)}.items():
        weight = torch.randn(shape, generator=generator)
        mask = torch.rand(shape, generator=generator) < kept if kept < 1 else None
        weights[name] = weight if mask is None else weight * mask
        formats[name] = TensorFormat(mask, fit_grid(weights[name], mask, LevelTarget(LEVELS, axis)))
    return weights, Snapped.start(weights, formats)


def copies(weights):
    return {name: weight.clone() for name, weight in weights.items()}


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    kept=st.sampled_from([0.1, 0.5, 1.0]),
    axis=st.sampled_from([None, 0]),
    shares=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=4).map(sorted),
)
def test_a_growing_share_lies_on_its_levels_and_stays(seed, kept, axis, shares):
    weights, snapped = started(seed, kept, axis)
    for share in shares:
        before, earlier = copies(weights), snapped.fixed
        snapped = snapped.snap(weights, share)
        for name, weight in weights.items():
            fixed, found = snapped.fixed[name], snapped.formats[name]
            count = weight.numel() if found.mask is None else int(found.mask.sum())
            assert int(fixed.sum()) == round(share * count)
            assert bool(fixed[earlier[name]].all())
            assert torch.equal(weight[fixed], found.project(before[name])[fixed])
            assert torch.equal(weight[~fixed], before[name][~fixed])
            assert torch.equal(weight == 0, before[name] == 0)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), kept=st.sampled_from([0.3, 1.0]))
def test_the_nearest_to_a_level_come_first(seed, kept):
    weights, snapped = started(seed, kept)
    before = copies(weights)
    fixed = snapped.snap(weights, 0.5).fixed
    for name, weight in before.items():
        found = snapped.formats[name]
        inside = torch.ones_like(weight, dtype=torch.bool) if found.mask is None else found.mask
        steps = (weight - found.project(weight)).abs() / found.grid.broadcast_scale(weight.shape)
        assert float(steps[fixed[name]].max()) <= float(steps[inside & ~fixed[name]].min())


@pytest.mark.parametrize("kept", [0.2, 1.0])
def test_all_snapped_is_the_projection(kept):
    weights, snapped = started(0, kept)
    wanted = {name: snapped.formats[name].project(weight) for name, weight in weights.items()}
    snapped.snap(weights, 1.0)
    assert all(torch.equal(weights[name], wanted[name]) for name in weights)


def test_fixed_weights_are_put_back_and_others_left():
    weights, snapped = started(0, 1.0)
    snapped = snapped.snap(weights, 0.4)
    levels = {name: snapped.formats[name].project(weight) for name, weight in weights.items()}
    moved = {name: weight + 0.01 for name, weight in weights.items()}
    snapped.hold(moved, levels)
    for name, weight in weights.items():
        fixed = snapped.fixed[name]
        assert torch.equal(moved[name][fixed], weight[fixed])
        assert torch.equal(moved[name][~fixed], (weight + 0.01)[~fixed])


def test_it_comes_back_from_its_state():
    weights, snapped = started(0, 0.5)
    snapped = snapped.snap(weights, 0.5)
    again = Snapped.from_state(snapped.state(), torch.device("cpu"))
    for name, weight in weights.items():
        assert torch.equal(again.fixed[name], snapped.fixed[name])
        assert torch.equal(again.formats[name].project(weight), snapped.formats[name].project(weight))
