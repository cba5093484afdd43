"""Ways to round the rows of a layer: each takes a problem and returns rows ``[S, N, K]`` and the grid they lie on."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from passes.reconstruction.problem import ColumnGrid, Problem
from toolchain.formats import Grid

PANEL = 128  # columns after which the error of a panel is passed on to the rest, in one product
SWEEPS = 4  # of coordinate descent over all columns; the error hardly falls after three
REFITS = 2  # times that levels and scales take turns

# ADMM: iterations, and by what the penalty grows per iteration, from and to these multiples of the mean curvature.
ADMM_STEPS = 40
ADMM_FIRST, ADMM_LAST = 1e-2, 1e1
LEAST_EIGEN = 1e-5  # of the mean curvature, where float32 has rounded the least one away
LARGEST_EIGEN = 2048  # columns; decomposing more takes minutes

Method = Callable[[Problem], tuple[Tensor, Grid]]


def nearest(problem: Problem) -> tuple[Tensor, Grid]:
    """Round every weight by itself."""
    return problem.project(problem.target), problem.grid


def gptq(problem: Problem) -> tuple[Tensor, Grid]:
    """Round column after column, and let the columns that follow make up for the error (Frantar et al. 2023).

    Columns are taken by falling curvature. In the order of the columns, with U the upper Cholesky factor of the inverse
    of H: ``e = (w_j - round(w_j)) / U_jj`` and ``w_k -= e U_jk`` for all k behind j.
    """
    order = problem.covariance.diagonal(dim1=1, dim2=2).sum(0).argsort(descending=True)
    grid = _in_order(problem.column_grid(), order)
    factor = _inverse_factor(problem.covariance[:, order][:, :, order])
    rows = problem.target[..., order].clone()
    count = rows.shape[2]
    for start in range(0, count, PANEL):
        end = min(start + PANEL, count)
        errors = torch.empty_like(rows[..., start:end])
        for column in range(start, end):
            rounded = grid.project(rows[..., column], column)
            error = (rows[..., column] - rounded) / factor[:, None, column, column]
            rows[..., column:end] -= error[..., None] * factor[:, None, column, column:end]
            rows[..., column] = rounded
            errors[..., column - start] = error
        rows[..., end:] -= errors @ factor[:, start:end, end:]
    return rows[..., order.argsort()], problem.grid


def descent(problem: Problem) -> tuple[Tensor, Grid]:
    """Improve what GPTQ finds by cyclic coordinate descent, in turn with the scales (after QuantEase, 2023).

    Given all other weights, the best value of a weight is the rounded ``w_j - g_j / H_jj`` with the gradient
    ``g = (w - t) H``; no step can make the error larger.
    """
    return _improve(problem, gptq(problem)[0])


def _improve(problem: Problem, rows: Tensor) -> tuple[Tensor, Grid]:
    best, grid, least = rows, problem.grid, problem.error(rows).sum()
    for turn in range(1 + REFITS):
        if turn:
            problem = problem.refitted(rows)
        rows = _descend(problem, problem.project(rows))
        error = problem.error(rows).sum()
        if error >= least:
            break
        best, grid, least = rows, problem.grid, error
    return best, grid


def admm(problem: Problem) -> tuple[Tensor, Grid]:
    """Alternate a ridge regression towards the grid with the projection onto it (ALPS' loop, with levels as the set).

    ``B = (H + rho)^-1 (H t + rho (D - U)); D = project(B + U); U += B - D``, with rho growing; H is scaled to a
    diagonal of mean 1. The best D is improved by coordinate descent. Of rows with more than ``LARGEST_EIGEN`` columns
    it is coordinate descent alone.
    """
    if problem.target.shape[2] > LARGEST_EIGEN:
        return descent(problem)
    spread = problem.covariance.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
    values, vectors = torch.linalg.eigh(problem.covariance / spread)
    goal = problem.target @ problem.covariance / spread
    chosen = problem.project(problem.target)
    dual = torch.zeros_like(chosen)
    best, least = chosen, problem.error(chosen)
    before = 0.0
    for step in range(ADMM_STEPS):
        rho = ADMM_FIRST * (ADMM_LAST / ADMM_FIRST) ** (step / (ADMM_STEPS - 1))
        dual *= before / rho if before else 1.0
        before = rho
        free = (goal + rho * (chosen - dual)) @ vectors / (values + rho)[:, None] @ vectors.mT
        chosen = problem.project(free + dual)
        dual += free - chosen
        error = problem.error(chosen)
        better = error < least
        best, least = torch.where(better[..., None], chosen, best), torch.where(better, error, least)
    return _improve(problem, best)


METHODS: dict[str, Method] = {"nearest": nearest, "gptq": gptq, "descent": descent, "admm": admm}


def _descend(problem: Problem, rows: Tensor) -> Tensor:
    """Return rows whose error no change of a single weight makes smaller, or what ``SWEEPS`` sweeps reach."""
    grid, covariance = problem.column_grid(), problem.covariance
    rows, count = rows.clone(), rows.shape[2]
    curvature = covariance.diagonal(dim1=1, dim2=2)
    for _ in range(SWEEPS):
        gradient = (rows - problem.target) @ covariance
        before = rows.clone()
        for start in range(0, count, PANEL):
            end = min(start + PANEL, count)
            panel = rows[..., start:end].clone()
            for column in range(start, end):
                best = rows[..., column] - gradient[..., column] / curvature[:, None, column]
                value = grid.project(best, column)
                step = value - rows[..., column]
                rows[..., column] = value
                gradient[..., column:end] += step[..., None] * covariance[:, None, column, column:end]
            gradient[..., end:] += (rows[..., start:end] - panel) @ covariance[:, start:end, end:]
        if torch.equal(before, rows):
            break
    return rows


def _inverse_factor(covariance: Tensor) -> Tensor:
    """Return U, upper triangular, with ``U' U`` the inverse of ``covariance``.

    With the order of rows and columns turned round it is the inverse of the Cholesky factor, turned back: the inverse
    itself, which rounding may have made indefinite, is not decomposed.
    """
    turned = covariance.flip(1, 2)
    factor, failed = torch.linalg.cholesky_ex(turned)
    if bool(failed.any()):
        spread = turned.diagonal(dim1=1, dim2=2).mean(1).double()[:, None, None]
        exact = turned.double() + LEAST_EIGEN * spread * torch.eye(turned.shape[1], device=turned.device)
        factor = torch.linalg.cholesky(exact).to(turned.dtype)
    identity = torch.eye(turned.shape[1], dtype=turned.dtype, device=turned.device).expand_as(turned)
    inverse: Tensor = torch.linalg.solve_triangular(factor, identity, upper=False)
    return inverse.flip(1, 2)


def _in_order(grid: ColumnGrid, order: Tensor) -> ColumnGrid:
    return replace(grid, scale=grid.scale[..., order], zero=grid.zero[..., order], kept=grid.kept[..., order])
