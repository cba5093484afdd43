import torch

from passes.allowance import Allowance
from passes.constraints import Levels, LevelTarget
from passes.finetune import FinetuneStage
from passes.projection import project_onto
from passes.training import train
from toolchain.formats import TensorFormat


def test_frozen_masks_are_never_left_while_fine_tuning(trainer):
    mask = torch.rand(16, 6, generator=torch.Generator().manual_seed(1)) < 0.3
    trainer.module.formats["w1"] = TensorFormat(mask)
    with torch.no_grad():
        trainer.module.tensor("w1").mul_(mask)
    train(trainer, FinetuneStage("finetune", trainer.module), Allowance(steps=30))
    weight = trainer.module.tensor("w1")
    assert bool((weight[~mask] == 0).all())
    assert bool((weight[mask] != 0).all())


def test_weights_lie_on_their_grid_after_every_step(trainer):
    constraint = Levels({"w1": LevelTarget((-2, -1, 1, 2), 0)})
    project_onto(trainer.module, ("w1",), constraint)
    stage = FinetuneStage("finetune", trainer.module, constraint)
    before = trainer.module.tensor("w1").detach().clone()
    train(trainer, stage, Allowance(steps=40))
    weight = trainer.module.tensor("w1")
    assert torch.equal(trainer.module.formats["w1"].project(weight), weight)
    assert not torch.equal(weight, before)


def test_scales_stay_where_nothing_refits_them(trainer):
    project_onto(trainer.module, ("w1",), Levels({"w1": LevelTarget((-2, -1, 1, 2), 0)}))
    scale = trainer.module.formats["w1"].grid.scale.clone()
    train(trainer, FinetuneStage("finetune", trainer.module), Allowance(steps=40))
    assert torch.equal(trainer.module.formats["w1"].grid.scale, scale)
