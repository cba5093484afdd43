import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from passes.constraints.levels import LevelTarget, fit_grid
from passes.reconstruction.methods import METHODS, _inverse_factor
from passes.reconstruction.problem import Problem
from toolchain.formats import TensorFormat
from toolchain.graph.layout import Layout

TARGETS = [
    LevelTarget(tuple(range(-7, 8)), 0),
    LevelTarget(tuple(range(4)), 0, shifted=True),
    LevelTarget((-1, 0, 1), None),
    LevelTarget((-2, -1, 1, 2), 0, block_size=8),
]


def make(layout, target, seed=0, share=1.0, rows=400):
    """Return a problem with inputs that depend on each other, as those of a layer do."""
    generator = torch.Generator().manual_seed(seed)
    stack, _, inputs, positions = layout.stack
    columns = inputs * positions
    mixed = torch.randn(stack, columns, columns, generator=generator) / columns**0.5 + torch.eye(columns)
    x = torch.randn(stack, rows, columns, generator=generator) @ mixed
    covariance = x.mT @ x / rows + 0.01 * torch.eye(columns)
    weight = torch.randn(layout.shape, generator=generator)
    target = target if target.axis is None else replace(target, axis=layout.outputs)
    mask = torch.rand(layout.shape, generator=generator) < share if share < 1 else None
    problem = Problem(weight, covariance, layout, mask, fit_grid(weight, mask, target))
    return Problem(problem.rows(weight), covariance, layout, mask, problem.grid)


def error(problem, method):
    rows, _ = METHODS[method](problem)
    return float(problem.error(rows).sum())


LAYOUTS = [
    Layout((6, 24), 0, 1),
    Layout((24, 6), 1, 0),
    Layout((6, 4, 3, 3), 0, 1, (2, 3)),
    Layout((8, 1, 3, 3), 0, 1, (2, 3), groups=8),
    Layout((8, 3, 3), 0, 1, (2,), groups=2),
]


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(sorted(METHODS)),
    st.sampled_from(LAYOUTS),
    st.sampled_from(TARGETS),
    st.sampled_from([0.4, 1.0]),
    st.integers(0, 99),
)
def test_every_method_ends_on_its_grid_and_keeps_zeros(method, layout, target, share, seed):
    problem = make(layout, target, seed, share)
    rows, grid = METHODS[method](problem)
    values = problem.tensor(rows)
    assert torch.equal(TensorFormat(problem.mask, grid).project(values), values)
    assert problem.mask is None or not bool(values[~problem.mask].any())
    assert bool(torch.isfinite(values).all())


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(LAYOUTS), st.sampled_from(TARGETS), st.sampled_from([0.4, 1.0]), st.integers(0, 99))
def test_descent_and_admm_never_lose_to_rounding(layout, target, share, seed):
    problem = make(layout, target, seed, share)
    rounded = error(problem, "nearest")
    assert error(problem, "admm") <= rounded * (1 + 1e-5)
    assert error(problem, "descent") <= error(problem, "gptq") * (1 + 1e-5)


@pytest.mark.parametrize("target", TARGETS[:3], ids=str)
def test_dependent_inputs_make_reconstruction_much_better_than_rounding(target):
    problem = make(Layout((32, 64), 0, 1), target)
    rounded = error(problem, "nearest")
    assert error(problem, "gptq") < 0.9 * rounded
    assert error(problem, "descent") < 0.75 * rounded
    assert error(problem, "admm") < 0.75 * rounded


def test_no_change_of_one_weight_improves_what_descent_finds():
    problem = make(Layout((3, 8), 0, 1), TARGETS[0])
    rows, grid = METHODS["descent"](problem)
    least = problem.error(rows)[0]
    for row, column in itertools.product(range(3), range(8)):
        for level in grid.levels:
            changed = rows.clone()
            changed[0, row, column] = level * grid.scale[row]
            assert float(problem.error(changed)[0, row]) >= float(least[row]) * (1 - 1e-5)


def test_a_small_problem_is_solved_nearly_as_well_as_by_trying_everything():
    best, found = 0.0, 0.0
    for seed in range(8):
        problem = make(Layout((1, 6), 0, 1), LevelTarget((-1, 0, 1), None), seed)
        codes = torch.tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=6)))
        covariance, goal = problem.covariance[0], problem.target[0, 0]
        scale = ((codes @ covariance) @ goal / ((codes @ covariance) * codes).sum(1).clamp_min(1e-9)).clamp_min(0)
        difference = scale[:, None] * codes - goal
        best += float(((difference @ covariance) * difference).sum(1).min())
        found += min(error(problem, "descent"), error(problem, "admm"))
    assert found < 1.25 * best


def test_refitted_scales_are_those_of_a_fine_search():
    problem = make(Layout((2, 12), 0, 1), TARGETS[0])
    rows = problem.project(problem.target)
    again = problem.refitted(rows)
    codes = rows / problem.grid.scale[None, :, None]
    for row in range(2):
        tried = torch.linspace(0.5, 1.5, 2001) * problem.grid.scale[row]
        differences = tried[:, None] * codes[0, row] - problem.target[0, row]
        errors = ((differences @ problem.covariance[0]) * differences).sum(1)
        assert float(again.grid.scale[row]) == pytest.approx(float(tried[errors.argmin()]), rel=2e-3)


@pytest.mark.parametrize("least", [1.0, 1e-4, -1e-6])
def test_the_factor_of_the_inverse_exists_also_where_rounding_took_the_least_curvature(least):
    basis = torch.linalg.qr(torch.randn(2, 40, 40, generator=torch.Generator().manual_seed(0)))[0]
    curvature = torch.logspace(0, 2, 40)
    curvature[0] = least
    covariance = (basis * curvature) @ basis.mT
    factor = _inverse_factor((covariance + covariance.mT) / 2)
    assert torch.isfinite(factor).all()
    assert torch.equal(factor, factor.triu())
    if least == 1.0:
        assert torch.allclose(factor.mT @ factor @ covariance, torch.eye(40).expand(2, -1, -1), atol=1e-3)
