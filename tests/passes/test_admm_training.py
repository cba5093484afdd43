import pytest
import torch

from passes.admm_training import AdmmStage
from passes.constraints import Budget, Levels, LevelTarget, TopK
from passes.schedule import Schedule
from toolchain.formats import TensorFormat


def stage_for(module, names=("w1", "w2"), kept=20):
    return AdmmStage("prune", module, names, lambda _: TopK((Budget(names, kept),)), Schedule(update_every=1))


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
        "prune", trainer.module, ("w1", "w2"), lambda _: TopK((Budget(("w1", "w2"), 40),), "curvature"), Schedule()
    )
    optimizer = torch.optim.Adam([trainer.module.tensor("w1")])
    trainer.module.tensor("w1").square().sum().backward()
    optimizer.step()
    stage.after_step(0, 1.0, optimizer)
    assert int(torch.count_nonzero(stage.admm.z["w2"])) == 1


def test_masks_of_tensors_that_are_no_target_hold(trainer):
    mask = torch.rand(16, 6, generator=torch.Generator().manual_seed(0)) < 0.5
    trainer.module.formats["w1"] = TensorFormat(mask)
    stage = AdmmStage(
        "quantize", trainer.module, ("w2",), lambda _: Levels({"w2": LevelTarget((-1, 1), 0)}), Schedule()
    )
    trainer.module.tensor("w1").sum().backward()
    stage.after_backward()
    assert torch.equal(trainer.module.tensor("w1").grad != 0, mask)


def test_a_stage_that_ends_prunes_for_good(trainer):
    names = ("w1", "w2")
    schedule = Schedule(ramp="growing", update_every=None, updates=4, path="stages", stages=2)
    kept = {0.5: 60, 1.0: 20}
    stage = AdmmStage("prune", trainer.module, names, lambda done: TopK((Budget(names, kept[done]),)), schedule)
    optimizer = torch.optim.Adam(stage.parameters(), 0.01)
    for step in range(12):
        optimizer.zero_grad()
        sum(weight.sum() for weight in trainer.module.parameters()).backward()
        stage.after_backward()
        optimizer.step()
        stage.after_step(step, step / 12, optimizer)
        nonzero = sum(int(torch.count_nonzero(trainer.module.tensor(name))) for name in names)
        assert nonzero == (144 if step < 6 else 60)
    assert stage.kept == 20


def quantizing(module):
    levels = Levels({name: LevelTarget((-2, -1, 1, 2), 0) for name in ("w1", "w2")})
    return AdmmStage(
        "quantize", module, ("w1", "w2"), lambda _: levels, Schedule(update_every=2, path="fixed", snaps=3)
    )


def steps_of(stage, optimizer, first, last):
    """Take some of 20 steps, and yield after each."""
    for step in range(first, last):
        optimizer.zero_grad()
        sum(weight.square().sum() for weight in stage.module.parameters()).backward()
        stage.after_backward()
        optimizer.step()
        stage.after_step(step, step / 20, optimizer)
        yield step


def test_weights_that_are_fixed_to_their_levels_no_longer_move(trainer):
    trainer.module.formats["w1"] = TensorFormat(trainer.module.tensor("w1").detach().abs() > 0.3)
    with torch.no_grad():
        trainer.module.tensor("w1").mul_(trainer.module.formats["w1"].mask)
    stage = quantizing(trainer.module)
    optimizer = torch.optim.Adam(stage.parameters(), 0.02)
    held, shares = {}, []
    for _ in steps_of(stage, optimizer, 0, 20):
        if stage.snapped is None:
            continue
        for name, fixed in stage.snapped.fixed.items():
            weight, found = trainer.module.tensor(name).detach(), stage.snapped.formats[name]
            assert torch.equal(weight[fixed], found.project(weight)[fixed])
            was, values = held.get(name, (torch.zeros_like(fixed), weight))
            assert torch.equal(weight[was], values[was])
            assert not torch.equal(weight[~fixed], found.project(weight)[~fixed])
            held[name] = fixed, weight.clone()
        shares.append(int(stage.snapped.fixed["w2"].sum()))
    assert sorted(set(shares)) == [12, 24, 36]  # of 48
    with stage.feasible(1.0) as keep:
        assert keep
        for name, (fixed, values) in held.items():
            assert torch.equal(trainer.module.tensor(name)[fixed], values[fixed])
            assert trainer.module.formats[name].grid is stage.snapped.formats[name].grid


def test_a_stage_goes_on_with_what_was_fixed(make_trainer):
    whole, parted = make_trainer().module, make_trainer().module
    stage = quantizing(whole)
    list(steps_of(stage, torch.optim.Adam(stage.parameters(), 0.02), 0, 20))
    first = quantizing(parted)
    optimizer = torch.optim.Adam(first.parameters(), 0.02)
    list(steps_of(first, optimizer, 0, 17))
    again = quantizing(parted)
    again.restore(first.state(), optimizer)
    list(steps_of(again, optimizer, 17, 20))
    assert all(torch.equal(whole.tensor(name), parted.tensor(name)) for name in ("w1", "w2", "b1"))


def test_the_learning_rate_is_the_schedules_or_one_cycle(trainer):
    stage = stage_for(trainer.module)
    assert stage.learning_rate(0.1) == pytest.approx(1.0)
    stage.schedule = Schedule(update_every=None, updates=10, restarts=True)
    assert stage.learning_rate(0.2) == pytest.approx(1.0)
    assert stage.learning_rate(0.2999) == pytest.approx(0.02, abs=1e-3)
