from dataclasses import replace

import numpy as np
import pytest
import torch

from passes.allowance import Allowance
from passes.constraints import Budget, TopK
from passes.projection import project_onto
from passes.prune import Prune
from passes.schedule import SCHEDULES, Schedule
from toolchain.structures import Structure


def test_pruning_keeps_exactly_what_was_asked_and_most_of_the_accuracy(trainer, count):
    result = Prune((Budget(("w1", "w2"), 36),), Schedule(update_every=8)).run(trainer, Allowance(steps=800))
    assert count(trainer) == 36
    assert trainer.evaluate().accuracy > 0.85
    assert {entry["phase"] for entry in result.log} == {"prune", "regrow", "train survivors"}


@pytest.mark.parametrize("ramp", [None, "balanced"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_ends_with_exactly_what_was_asked_and_learns(trainer, count, name, ramp):
    schedule = replace(SCHEDULES[name], update_every=8, **({} if ramp is None else {"ramp": ramp}))
    result = Prune((Budget(("w1", "w2"), 48),), schedule).run(trainer, Allowance(steps=600))
    assert count(trainer) == 48
    assert trainer.evaluate().accuracy > 0.8
    pulls = [entry["pull"] for entry in result.log if "pull" in entry]
    assert max(pulls) > 0


def test_only_masks_of_single_weights_go_on_searching():
    def phases(*budgets, **options):
        return [(phase.name, phase.is_final) for phase in Prune(budgets, Schedule(), **options).phases()]

    single, columns = Budget(("w1",), 20), Budget(("w2",), 20, Structure("column"))
    assert phases(single, columns) == [("prune", False), ("regrow", True), ("train survivors", True)]
    assert phases(columns) == [("prune", True), ("train survivors", True)]
    assert phases(single, regrow_share=0.0) == [("prune", True), ("train survivors", True)]


def test_the_shares_of_the_phases_make_a_whole():
    for options in ({}, {"admm_share": 0.9}, {"admm_share": 1.0, "regrow_share": 1.0}, {"regrow_share": 0.0}):
        phases = Prune((Budget(("w1", "w2"), 36),), Schedule(), **options).phases()
        assert sum(phase.share for phase in phases) == pytest.approx(1.0)
        assert all(phase.share >= 0 for phase in phases)
        assert phases[0].share == options.get("admm_share", 0.5)


@pytest.fixture
def rates(trainer):
    """Return the learning rates early in each phase and at its end, as shares of the peak."""

    def find(schedule, **options):
        budgets = (Budget(("w1", "w2"), 36),)
        project_onto(trainer.module, ("w1", "w2"), TopK(budgets))
        stages = [phase.begin(trainer.module) for phase in Prune(budgets, schedule, **options).phases()]
        return [(stage.learning_rate(0.1), stage.learning_rate(1.0)) for stage in stages]

    return find


def test_masks_that_go_on_searching_give_every_phase_a_cycle_of_the_learning_rate(rates):
    assert np.array(rates(Schedule())) == pytest.approx(np.array([(1, 0.02)] * 3))


def test_masks_that_stay_share_one_cycle_with_what_chose_them(rates):
    first, last = rates(Schedule(), admm_share=0.7, regrow_share=0.0)
    assert first[0] == pytest.approx(1, abs=0.05)
    assert first[1] > last[0] > last[1] == pytest.approx(0.02)


def test_after_restarts_training_of_what_survives_begins_anew(rates):
    assert rates(SCHEDULES["progressive"], regrow_share=0.0)[-1] == pytest.approx((1, 0.02))


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_even_a_single_step_ends_pruned(trainer, steps, count):
    Prune((Budget(("w1", "w2"), 36),), Schedule()).run(trainer, Allowance(steps=steps))
    assert count(trainer) == 36


def test_pruning_without_training_only_projects(trainer, count):
    before = trainer.module.tensor("b1").clone()
    Prune((Budget(("w1", "w2"), 36),), Schedule()).run(trainer, Allowance(steps=0))
    assert count(trainer) == 36
    assert torch.equal(trainer.module.tensor("b1"), before)


def test_without_training_weights_are_ranked_by_the_score_that_is_asked_for(make_trainer):
    kept = {}
    for score in ("magnitude", "lamp", "curvature"):
        trainer = make_trainer()
        expected = masks_by(trainer, score)
        Prune((Budget(("w1", "w2"), 36),), Schedule(), score=score).run(trainer, Allowance(steps=0))
        kept[score] = [trainer.module.tensor(name) != 0 for name in ("w1", "w2")]
        assert all(torch.equal(mask, wanted) for mask, wanted in zip(kept[score], expected, strict=True))
    assert not torch.equal(kept["magnitude"][0], kept["lamp"][0])
    assert torch.equal(kept["curvature"][0], kept["lamp"][0])  # nothing is known of the curvature


def masks_by(trainer, score):
    weights = {name: trainer.module.tensor(name).detach().clone() for name in ("w1", "w2")}
    return [found.mask for found in TopK((Budget(("w1", "w2"), 36),), score).fit(weights, {}, {}).values()]


def test_the_same_seed_gives_the_same_weights(make_trainer):
    results = []
    for _ in range(2):
        trainer = make_trainer(learning_rate=5e-3)
        Prune((Budget(("w1", "w2"), 36),), Schedule(update_every=8)).run(trainer, Allowance(steps=50))
        results.append(trainer.module.tensor("w1").detach().clone())
    assert torch.equal(*results)


def test_a_learning_rate_that_ruins_the_model_ends_no_worse_than_projection_alone(make_trainer):
    projected, trained = make_trainer(), make_trainer(learning_rate=3.0)
    prune = Prune((Budget(("w1", "w2"), 100),), Schedule(), score="magnitude")
    project_onto(projected.module, ("w1", "w2"), TopK(prune.budgets))
    prune.run(trained, Allowance(steps=20))
    assert trained.evaluate().loss <= projected.evaluate().loss
