import copy

import pytest
import torch

from passes.allowance import Allowance
from passes.constraints import Budget, Levels, LevelTarget
from passes.finetune import FinetuneStage
from passes.projection import project_onto
from passes.regrowth import Regrowth
from passes.snapshot import Snapshot
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


def pruned(make_trainer, blend, **options):
    """Return a trainer whose first weights are masked, and a stage that begins with them as they were."""
    trainer = make_trainer(**options)
    dense = {name: weight.detach().clone() for name, weight in trainer.module.weights().items()}
    mask = torch.rand(16, 6, generator=torch.Generator().manual_seed(1)) < 0.3
    trainer.module.formats["w1"] = TensorFormat(mask)
    with torch.no_grad():
        trainer.module.tensor("w1").mul_(mask)
    return trainer, FinetuneStage("finetune", trainer.module, dense=dense, blend=blend), dense


def test_a_blend_begins_with_the_dense_weights_and_ends_with_the_projected_ones(make_trainer):
    trainer, stage, dense = pruned(make_trainer, 0.5)
    weight, mask = trainer.module.tensor("w1"), trainer.module.formats["w1"].mask
    assert torch.equal(weight, dense["w1"])
    stage.after_step(1, 0.25, None)
    assert torch.allclose(weight[~mask], 0.5 * dense["w1"][~mask])
    stage.after_step(2, 0.5, None)
    assert not weight[~mask].any()


def test_only_the_projected_weights_of_a_blend_are_judged_and_it_goes_on_afterwards(make_trainer):
    trainer, stage, _ = pruned(make_trainer, 1.0)
    stage.after_step(32, 0.3, None)  # a step that counts
    weight, mask = trainer.module.tensor("w1"), trainer.module.formats["w1"].mask
    before = weight.detach().clone()
    with stage.feasible(0.3) as keep:
        assert keep
        assert not weight[~mask].any()
    assert torch.equal(weight, before)
    assert stage.figures()["kept"] == int(mask.sum())


def test_a_blend_trains_the_latent_weights_as_much_as_they_count(make_trainer):
    _, stage, _ = pruned(make_trainer, 1.0)
    for done, expected in ((0.0, 0.0), (0.25, 0.25), (1.0, 1.0)):
        stage.after_step(1, done, None)
        stage.weights["w1"].grad = torch.ones(16, 6)
        stage.after_backward()
        gradient = stage.latent["w1"].grad
        assert gradient.max() == expected


def test_what_a_blend_ends_with_lies_in_the_mask(make_trainer):
    for blend in (0.5, 1.0):
        trainer, stage, _ = pruned(make_trainer, blend)
        train(trainer, stage, Allowance(steps=30))
        assert not trainer.module.tensor("w1")[~trainer.module.formats["w1"].mask].any()


@pytest.mark.parametrize("step", [1, 5, 14, 22])
@pytest.mark.parametrize("options", [{"blend": 0.7, "regrows": False}, {"blend": 0.0, "regrows": True}])
def test_it_goes_on_where_it_was_interrupted(make_trainer, step, options):
    kept = []

    def keep(state):
        kept.append(
            (copy.deepcopy(state()), Snapshot.of(trainer.module), copy.deepcopy(trainer.rng.bit_generator.state))
        )

    def stage(module, dense):
        regrowth = Regrowth((Budget(("w1",), 1),), "curvature", every=5) if options["regrows"] else None
        return FinetuneStage("finetune", module, dense=dense, blend=options["blend"], regrowth=regrowth)

    trainer, _, dense = pruned(make_trainer, 0.0)
    train(trainer, stage(trainer.module, dense), Allowance(steps=24), keep=keep)
    whole = Snapshot.of(trainer.module)
    saved, module, rng = kept[step]
    later, _, dense = pruned(make_trainer, 0.0)
    module.restore(later.module)
    later.rng.bit_generator.state = rng
    train(later, stage(later.module, dense), Allowance(steps=24), saved)
    assert all(torch.equal(value, whole.tensors[key]) for key, value in later.module.state_dict().items())
    assert torch.equal(later.module.formats["w1"].mask, whole.formats["w1"].mask)
