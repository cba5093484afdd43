import pytest
import torch

from passes.allowance import Allowance
from passes.constraints import Levels, LevelTarget
from passes.constraints.levels import fit_grid
from passes.finetune import FinetuneStage
from passes.projection import project_onto
from passes.scales import LearnedScales
from passes.training import train
from toolchain.formats import TensorFormat

TARGETS = [
    LevelTarget((-3, -1, 1, 3), 0),
    LevelTarget(tuple(range(4)), 0, shifted=True),
    LevelTarget((-1, 0, 1), None),
    LevelTarget((-2, -1, 1, 2), 0, block_size=4),
]


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_the_gradient_is_that_of_the_projection_where_levels_do_not_move(target):
    torch.manual_seed(0)
    latent, gradient, mask = torch.randn(3, 10), torch.randn(3, 10), torch.rand(3, 10) < 0.7
    grid = fit_grid(latent, mask, target)
    scales = LearnedScales({"w": TensorFormat(mask, grid)})
    scales.add_gradient("w", latent, gradient)
    zero, spread = grid.broadcast_zero(latent.shape), grid.broadcast_scale(latent.shape)
    level, position = grid.quantize(latent) - zero, latent / spread
    clipped = (position <= grid.levels[0] - zero) | (position >= grid.levels[-1] - zero)
    each = torch.where(clipped, level, level - position) * spread * gradient * mask  # by the logarithm of the scale
    found = scales.logarithms["w"].grad
    assert found.shape == grid.scale.shape
    assert float(found.sum()) == pytest.approx(float(each.sum()), rel=1e-4, abs=1e-5)
    if target.axis == 0 and not target.block_size:
        torch.testing.assert_close(found, each.sum(1))


def test_learned_scales_move_are_storable_and_weights_lie_on_them(trainer):
    targets = {name: LevelTarget((-3, -1, 1, 3), 0) for name in ("w1", "w2")}
    project_onto(trainer.module, ("w1", "w2"), Levels(targets))
    before = trainer.module.formats["w1"].grid.scale.clone()
    start = trainer.evaluate().loss
    train(trainer, FinetuneStage("train in grid", trainer.module, learns_scales=True), Allowance(steps=200))
    assert trainer.evaluate().loss < start
    for name in targets:
        found, weight = trainer.module.formats[name], trainer.module.tensor(name)
        assert torch.equal(found.project(weight), weight)
        assert torch.equal(found.grid.scale.half().float(), found.grid.scale)
    assert not torch.equal(trainer.module.formats["w1"].grid.scale, before)


def test_scales_come_back_from_their_state():
    formats = {"w": TensorFormat(None, fit_grid(torch.randn(3, 10), None, TARGETS[0])), "x": TensorFormat(None)}
    scales, other = LearnedScales(formats), LearnedScales(formats)
    with torch.no_grad():
        scales.logarithms["w"].add_(0.5)
    other.restore(scales.state())
    assert torch.equal(other.logarithms["w"], scales.logarithms["w"])
    assert list(scales.tightened(formats)) == ["w"]
