import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from passes.constraints.levels import Levels, LevelTarget, fit_grid, levels_for, powers_for, storable
from passes.constraints.segments import gather
from toolchain.formats import TensorFormat

LEVELS = st.sampled_from([(-1, 1), (-1, 0, 1), (-2, -1, 1, 2), (-3, -1, 1, 3), tuple(range(-7, 8))])


def project(weight, target, mask=None):
    fixed = {} if mask is None else {"w": TensorFormat(mask)}
    return Levels({"w": target}).fit({"w": weight}, fixed, {})["w"]


@settings(deadline=None)
@given(LEVELS, st.sampled_from([None, 0, 1]), st.integers(0, 999))
def test_projection_is_idempotent_bit_for_bit_and_zeros_stay_zero(levels, axis, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(4, 6, generator=generator)
    mask = torch.rand(4, 6, generator=generator) < 0.5
    fmt = project(weight, LevelTarget(levels, axis), mask)
    once = fmt.project(weight)
    assert torch.equal(fmt.project(once), once)
    assert bool((once[~mask] == 0).all())
    assert 0 in levels or bool((once[mask] != 0).all())


@settings(deadline=None)
@given(LEVELS, st.integers(0, 999))
def test_scales_are_exact_in_float16(levels, seed):
    scale = project(torch.randn(3, 8, generator=torch.Generator().manual_seed(seed)), LevelTarget(levels, 0)).grid.scale
    assert torch.equal(scale.half().float(), scale)


@settings(deadline=None)
@given(LEVELS, st.floats(1e-9, 1e-3), st.integers(0, 999))
def test_below_the_normal_range_float16_is_taken_where_the_levels_hardly_move(levels, size, seed):
    weight = size * torch.randn(3, 8, generator=torch.Generator().manual_seed(seed))
    fmt = project(weight, LevelTarget(levels, 0))
    scale = fmt.grid.scale
    exact = scale.half().float() == scale
    precise = 2.0**-25 * max(levels) * 2048 / 127  # half a step of float16 there, by what the largest level may move
    assert bool(exact[scale > precise].all())
    once = fmt.project(weight)
    assert torch.equal(fmt.project(once), once)
    if levels == (-1, 1):
        free = weight.abs().mean(1)
        assert bool(((scale - free).abs() <= 0.063 * free).all())


def test_a_scale_that_float16_would_move_too_far_stays():
    scale = torch.tensor([1e-6, 1e-7, 1e6])
    stored = storable(scale, (-1, 1))
    assert stored[0] == scale[0].half()
    assert torch.equal(stored[1:], scale[1:])
    assert torch.equal(storable(scale, tuple(range(-127, 128))), scale)


def test_the_binary_scale_is_the_mean_magnitude():
    weight = torch.tensor([[0.5, -1.5, 1.0, -1.0]])
    assert float(fit_grid(weight, None, LevelTarget((-1, 1), None)).scale) == 1.0


@pytest.mark.parametrize("levels", [(-1, 0, 1), (-2, -1, 1, 2), (-3, -1, 1, 3)])
def test_the_error_is_close_to_the_best_of_a_fine_search(levels):
    weight = torch.randn(1, 40, generator=torch.Generator().manual_seed(3))
    fmt = project(weight, LevelTarget(levels, None))
    error = float((fmt.project(weight) - weight).square().sum())
    grid = torch.tensor(levels, dtype=torch.float32)
    errors = [
        float((weight.flatten()[:, None] - scale * grid).square().amin(1).sum())
        for scale in torch.linspace(0.05, 3.0, 2000)
    ]
    assert error <= min(errors) * 1.02


def test_small_ternary_projection_matches_brute_force():
    weight = torch.tensor([0.9, -0.1, 0.4, -1.2, 0.05])
    fmt = project(weight[None], LevelTarget((-1, 0, 1), None))
    error = float((fmt.project(weight[None]) - weight).square().sum())
    best = float("inf")
    for codes in itertools.product((-1.0, 0.0, 1.0), repeat=5):
        code = torch.tensor(codes)
        norm = float(code @ code)
        scale = max(0.0, float(weight @ code) / norm) if norm else 0.0
        best = min(best, float((weight - scale * code).square().sum()))
    assert error == pytest.approx(best, rel=1e-3)


def test_an_empty_channel_gets_a_usable_scale():
    mask = torch.tensor([[True, True], [False, False]])
    fmt = project(torch.tensor([[1.0, -1.0], [3.0, 4.0]]), LevelTarget((-1, 1), 0), mask)
    assert fmt.grid.scale.tolist() == [1.0, 1.0]


def test_zero_weights_have_a_positive_scale():
    fmt = project(torch.zeros(2, 3), LevelTarget((-1, 0, 1), 0))
    assert bool((fmt.grid.scale > 0).all())
    assert bool((fmt.project(torch.zeros(2, 3)) == 0).all())


def test_a_pruned_grid_spends_no_code_on_zero():
    assert levels_for(2, pruned=True) == (-2, -1, 1, 2)
    assert levels_for(2, pruned=False) == (-3, -1, 1, 3)
    assert levels_for(8, pruned=False)[0] == -127
    assert 0 not in levels_for(8, pruned=True)


@pytest.mark.parametrize("size", [1e-9, 1e-6, 1.0, 1e6])
@pytest.mark.parametrize("levels", [(-1, 1), tuple(range(-127, 128))])
def test_weights_of_any_magnitude_are_fitted_as_well(size, levels):
    weight = torch.randn(4, 200, generator=torch.Generator().manual_seed(0))
    errors = []
    for scaled in (weight, weight * size):
        fmt = project(scaled, LevelTarget(levels, 0))
        errors.append(float((fmt.project(scaled) - scaled).norm() / scaled.norm()))
    assert errors[1] == pytest.approx(errors[0], rel=0.02)


def test_a_sample_of_a_large_tensor_finds_as_good_a_start():
    weight = torch.randn(300, 2000, generator=torch.Generator().manual_seed(0))
    fmt = project(weight, LevelTarget((-3, -1, 1, 3), 0))
    error = float((fmt.project(weight) - weight).square().mean())
    assert error == pytest.approx(0.1188, abs=0.003)  # of the best uniform 4-level quantizer of a Gaussian (Max 1960)


TARGETS = [
    LevelTarget(tuple(range(4)), None, shifted=True),
    LevelTarget(tuple(range(8)), 0, shifted=True),
    LevelTarget((-3, -1, 1, 3), 0, block_size=8),
    LevelTarget((-1, 0, 1), 1, block_size=5),
    LevelTarget((-1, 1), 0, block_size=8),
    LevelTarget((-4, -2, -1, 0, 1, 2, 4), None),
    LevelTarget(tuple(range(-31, 32)), 0),
]


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize("pruned", [False, True])
def test_scales_and_zero_points_are_as_good_as_those_of_a_fine_search(target, pruned):
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(3, 21, generator=generator) + 0.4
    mask = torch.rand(3, 21, generator=generator) < 0.6 if pruned else None
    fmt = project(weight, target, mask)
    kept = torch.ones_like(weight, dtype=torch.bool) if mask is None else mask
    error = ((fmt.project(weight) - weight).square() * kept).sum()
    best = 0.0
    segments = gather(weight, mask, target.axis, target.block_size)
    for part in segments.values.split(segments.lengths.tolist()):
        zeros = torch.arange(len(target.levels)) if target.shifted else torch.zeros(1)
        points = torch.tensor(target.levels)[None] - zeros[:, None]
        candidates = torch.linspace(0.005, 4.0, 3000)[:, None, None] * points
        errors = (part[:, None, None, None] - candidates).square().amin(-1).sum(0)
        best += float(errors.min()) if len(part) else 0.0
    assert float(error) <= best * 1.05 + 1e-6


def test_a_pruned_tensor_stays_pruned_on_grids_with_shifted_zeros():
    weight, mask = torch.randn(4, 8) + 1, torch.rand(4, 8) < 0.3
    fmt = project(weight, LevelTarget(tuple(range(4)), 0, shifted=True), mask)
    assert not bool(fmt.project(weight)[~mask].any())


def test_powers_of_two_fit_their_bits_and_int8():
    assert powers_for(2, pruned=False) == (-2, -1, 1, 2)
    assert powers_for(3, pruned=False) == (-4, -2, -1, 0, 1, 2, 4)
    assert powers_for(3, pruned=True) == (-8, -4, -2, -1, 1, 2, 4, 8)
    assert powers_for(4, pruned=False)[-1] == 64
    assert all(len(powers_for(bits, pruned)) <= 2**bits for bits in (2, 3, 4) for pruned in (False, True))
