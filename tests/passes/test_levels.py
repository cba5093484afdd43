import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from passes.constraints.levels import Levels, LevelTarget, fit_scale, levels_for
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


def test_the_binary_scale_is_the_mean_magnitude():
    weight = torch.tensor([[0.5, -1.5, 1.0, -1.0]])
    assert float(fit_scale(weight, None, LevelTarget((-1, 1), None))) == 1.0


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
