import math

import torch

from passes.allowance import Allowance
from passes.constraints import Budget
from passes.prune import Prune
from passes.schedule import Schedule
from passes.score_choice import choose_score, describe_trials, try_scores

BUDGET = Budget(("w1", "w2"), 36)


def trials(*scores):
    return {score: Prune((BUDGET,), Schedule(update_every=4), score) for score in scores}


def test_every_score_gets_a_loss_and_the_module_stays_as_it_was(trainer):
    before = {name: value.clone() for name, value in trainer.module.state_dict().items()}
    losses = try_scores(trainer, trials("curvature", "magnitude", "lamp"), Allowance(steps=660))
    assert list(losses) == ["curvature", "magnitude", "lamp"]
    assert all(loss > 0 for loss in losses.values())
    assert all(torch.equal(value, before[name]) for name, value in trainer.module.state_dict().items())
    assert trainer.module.formats == {}


def test_a_trial_is_the_pass_itself_only_shorter(make_trainer):
    tried, run = make_trainer(), make_trainer()
    losses = try_scores(tried, trials("magnitude"), Allowance(steps=240))
    trials("magnitude")["magnitude"].run(run, Allowance(steps=240))
    assert losses["magnitude"] == run.evaluate().loss


def test_trials_of_a_few_steps_say_nothing(trainer):
    assert try_scores(trainer, trials("curvature", "lamp"), Allowance(steps=90)) == {}
    assert trainer.module.formats == {}


def test_a_trial_that_overflows_ends_at_an_infinite_loss(make_trainer):
    trainer = make_trainer(learning_rate=1e30)
    losses = try_scores(trainer, trials("curvature", "lamp"), Allowance(steps=660))
    assert losses == {"curvature": math.inf, "lamp": math.inf}
    assert trainer.module.formats == {}


def test_only_a_clearly_better_score_is_chosen():
    assert choose_score({"curvature": 1.0, "lamp": 0.95}) == "curvature"
    assert choose_score({"curvature": 1.0, "lamp": 0.8, "magnitude": 2.0}) == "lamp"
    assert choose_score({}) == "curvature"


def test_what_the_trials_showed_is_said():
    assert describe_trials({}) == ""
    assert describe_trials({"curvature": 1.0, "lamp": 0.5}) == (
        "Weights were ranked by lamp: short trials of every score ended at losses of curvature 1, lamp 0.5."
    )
