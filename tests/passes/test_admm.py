import pytest
import torch

from passes.admm import Admm
from passes.constraints import Budget, TopK


def to_one(values):  # noqa: ARG001
    """Choose the set that is one point, 1.0 everywhere."""
    return lambda _, value: torch.ones_like(value)


def largest(kept):
    """Choose the set of vectors with so many nonzeros."""

    def choose(values):
        formats = TopK((Budget(("w",), kept),)).fit(values, {}, {})
        return lambda name, value: formats[name].project(value)

    return choose


def test_start_projects_and_has_no_dual():
    weights = {"w": torch.tensor([3.0, -1.0, 2.0])}
    admm = Admm.start(weights, largest(1)(weights))
    assert admm.z["w"].tolist() == [3.0, 0.0, 0.0]
    assert admm.u["w"].tolist() == [0.0, 0.0, 0.0]


def test_z_is_a_copy_so_that_the_first_penalty_is_not_zero():
    weights = {"w": torch.tensor([3.0, -1.0])}
    admm = Admm.start(weights, to_one(weights))
    admm.pull(weights, 0.5)
    assert weights["w"].tolist() == [2.0, 0.0]


@pytest.mark.parametrize(("rho", "rescaled"), [(4.0, 0.25), (0.5, 2.0)])
def test_the_scaled_dual_shrinks_as_rho_grows_and_grows_as_it_falls(rho, rescaled):
    weights = {"w": torch.tensor([2.0])}
    admm = Admm.start(weights, to_one(weights))
    admm.update(weights, to_one, 1.0)
    assert admm.u["w"].tolist() == [1.0]
    admm.update(weights, to_one, rho)
    assert admm.u["w"].tolist() == [rescaled + 1.0]


def test_a_damped_dual_forgets():
    weights = {"w": torch.tensor([2.0])}
    admm = Admm.start(weights, to_one(weights))
    admm.update(weights, to_one, 1.0, damping=0.5)
    assert admm.u["w"].tolist() == [0.5]


def test_residuals_are_root_mean_squares():
    weights = {"w": torch.tensor([2.0, 4.0])}
    residuals = Admm.start(weights, to_one(weights)).update(weights, to_one, 1.0)
    assert residuals.primal == pytest.approx(((1 + 9) / 2) ** 0.5)
    assert residuals.dual == 0.0


def test_the_loop_solves_sparse_least_squares():
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(60, 10, generator=generator)
    truth = torch.zeros(10)
    truth[[1, 4, 7]] = torch.tensor([2.0, -3.0, 1.5])
    b = a @ truth
    weight = torch.zeros(10, requires_grad=True)
    optimizer = torch.optim.Adam([weight], 0.05)
    admm = Admm.start({"w": weight}, largest(3)({"w": weight}))
    for step in range(600):
        optimizer.zero_grad()
        (a @ weight - b).square().mean().backward()
        optimizer.step()
        admm.pull({"w": weight}, 0.02)
        if step % 10 == 0:
            residuals = admm.update({"w": weight}, largest(3), 0.02)
    assert admm.z["w"].nonzero().flatten().tolist() == [1, 4, 7]
    assert torch.allclose(admm.z["w"], truth, atol=0.05)
    assert residuals.primal < 0.05
