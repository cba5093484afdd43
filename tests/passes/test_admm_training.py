import pytest
import torch

from passes.admm_training import AdmmStage, Penalty
from passes.constraints import Budget, Levels, LevelTarget, TopK
from toolchain.formats import TensorFormat


def stage_for(module, names=("w1", "w2"), kept=20):
    return AdmmStage("prune", module, names, lambda _: TopK((Budget(names, kept),)), Penalty(update_every=1))


def test_the_pull_rises_from_nothing_to_rho():
    penalty = Penalty(rho=0.2)
    strengths = [penalty.strength(done / 10) for done in range(11)]
    assert strengths == sorted(strengths)
    assert (strengths[0], strengths[-1]) == (0, pytest.approx(0.2))


def test_the_set_is_at_its_target_before_the_end():
    assert [Penalty(settled=0.8).tightening(done) for done in (0.0, 0.4, 0.8, 1.0)] == [0.0, 0.5, 1.0, 1.0]
    assert Penalty(settled=0.0).tightening(0.0) == 1.0


def test_a_feasible_point_is_held_only_inside_the_context(trainer, count):
    stage = stage_for(trainer.module)
    with stage.feasible(1.0) as keep:
        assert keep
        assert count(trainer) == 20
    assert count(trainer) == 144
    assert trainer.module.formats == {}


def test_an_error_inside_the_context_gives_the_weights_back(trainer, count):
    with pytest.raises(RuntimeError), stage_for(trainer.module).feasible(1.0):
        raise RuntimeError
    assert count(trainer) == 144


def test_a_point_before_the_target_is_not_kept(trainer):
    with stage_for(trainer.module).feasible(0.5) as keep:
        assert not keep


def test_a_weight_that_no_output_depends_on_is_worth_nothing(trainer):
    stage = AdmmStage(
        "prune", trainer.module, ("w1", "w2"), lambda _: TopK((Budget(("w1", "w2"), 40),), "curvature"), Penalty()
    )
    optimizer = torch.optim.Adam([trainer.module.tensor("w1")])
    trainer.module.tensor("w1").square().sum().backward()
    optimizer.step()
    stage.after_step(0, 1.0, optimizer)
    assert int(torch.count_nonzero(stage.admm.z["w2"])) == 1


def test_masks_of_tensors_that_are_no_target_hold(trainer):
    mask = torch.rand(16, 6, generator=torch.Generator().manual_seed(0)) < 0.5
    trainer.module.formats["w1"] = TensorFormat(mask)
    stage = AdmmStage("quantize", trainer.module, ("w2",), lambda _: Levels({"w2": LevelTarget((-1, 1), 0)}), Penalty())
    trainer.module.tensor("w1").sum().backward()
    stage.after_backward()
    assert torch.equal(trainer.module.tensor("w1").grad != 0, mask)
