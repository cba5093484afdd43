import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from passes.admm_training import AdmmStage
from passes.allowance import Allowance
from passes.base import Constraint
from passes.constraints import Budget, TopK
from passes.finetune import FinetuneStage
from passes.schedule import Schedule
from passes.training import Training, decay, rise, train
from toolchain.errors import TrainingError
from toolchain.formats import TensorFormat

FEW = Budget(("w1", "w2"), 24)


def test_the_module_is_left_at_the_best_state_seen(trainer):
    log = train(trainer, FinetuneStage("finetune", trainer.module), Allowance(steps=60))
    best = min(log, key=lambda entry: entry["selection_loss"])
    assert trainer.evaluate().loss == pytest.approx(best["selection_loss"])


def test_training_never_ends_worse_than_it_began(make_trainer):
    trainer = make_trainer(learning_rate=0.8)
    before = trainer.evaluate()
    train(trainer, FinetuneStage("finetune", trainer.module), Allowance(steps=40))
    assert not before.better_than(trainer.evaluate())


def test_a_loss_that_is_not_finite_stops_with_step_and_cause_and_keeps_the_last_good_state(make_trainer):
    trainer = make_trainer(learning_rate=5e-3)
    start = trainer.module.tensor("w1").detach().clone()
    trainer.data.inputs["x"][:] = np.nan
    with pytest.raises(TrainingError, match=r"phase 'finetune' at step 0") as caught:
        train(trainer, FinetuneStage("finetune", trainer.module), Allowance(steps=10))
    assert "learning_rate" in caught.value.hint
    assert torch.equal(trainer.module.tensor("w1"), start)


def test_a_time_allowance_ends_the_phase(trainer):
    log = train(trainer, FinetuneStage("finetune", trainer.module), Allowance(seconds=0.3))
    assert log[-1]["done"] == 1
    assert log[-1]["step"] > 0


def test_whole_sets_train_as_the_same_samples_in_one_batch_do(make_trainer):
    trained = []
    for sets in (False, True):
        trainer = make_trainer(learning_rate=5e-3, batch="1" if sets else "N")
        if sets:
            for part in ("data", "selection"):
                data = getattr(trainer, part)
                inputs = {name: array[:, None] for name, array in data.inputs.items()}
                setattr(trainer, part, replace(data, inputs=inputs, sets=True))
        log = train(trainer, FinetuneStage("finetune", trainer.module), Allowance(steps=3))
        trained.append((trainer.module.tensor("w1").detach().clone(), log[-1]["selection_accuracy"]))
    (batched, accuracy), (single, same) = trained
    assert torch.allclose(batched, single, atol=1e-5)
    assert accuracy == same


def test_a_phase_begins_without_the_gradient_of_the_one_before(make_trainer):
    weights = []
    for left in (None, torch.full((16, 6), 1e3)):
        trainer = make_trainer()
        trainer.module.formats["w1"] = TensorFormat(torch.ones(16, 6, dtype=torch.bool))
        trainer.module.tensor("w1").grad = left
        train(trainer, FinetuneStage("finetune", trainer.module), Allowance(steps=1))
        weights.append(trainer.module.tensor("w1").detach().clone())
    assert torch.equal(*weights)


def test_no_gradient_stays_in_memory_after_a_step(trainer):
    trainer.module.formats["w1"] = TensorFormat(torch.ones(16, 6, dtype=torch.bool))
    training = Training(trainer, FinetuneStage("finetune", trainer.module), Allowance(steps=2))
    before = trainer.module.tensor("w2").detach().clone()
    training.advance(0.0)
    assert not torch.equal(trainer.module.tensor("w2"), before)
    assert all(tensor.grad is None for tensor in (*trainer.module.parameters(), *training.stage.parameters()))


def test_states_on_the_way_are_judged_with_statistics_of_their_own(make_trainer):
    losses = []
    for moves_normalization in (False, True):
        trainer = make_trainer(normalised=True)
        trainer.moves_normalization = moves_normalization
        trainer.module.tensor("m").fill_(3.0)  # far from the mean
        stage = AdmmStage("prune", trainer.module, FEW.names, lambda _: TopK((FEW,)), Schedule())
        training = Training(trainer, stage, Allowance(steps=10))
        training.step = 1
        training.evaluate(0.1)
        assert training.best is None  # the set is not at its target yet
        losses.append(training.log[-1]["selection_loss"])
    assert losses[1] < losses[0]


def test_the_learning_rate_rises_then_falls():
    rates = [rise(done / 50) * decay(done / 50) for done in range(51)]
    assert rates.index(max(rates)) == 5
    assert math.isclose(max(rates), 1.0)
    assert rates[-1] == pytest.approx(0.02)


def test_a_phase_takes_its_part_of_a_cycle_and_begins_slowly(trainer):
    stages = [
        FinetuneStage(name, trainer.module, span=span) for name, span in (("first", (0.0, 0.5)), ("second", (0.5, 1.0)))
    ]
    first, second = ([stage.learning_rate(done / 50) for done in range(51)] for stage in stages)
    assert first[-1] == pytest.approx(decay(0.5))
    assert second[0] == pytest.approx(0.1 * decay(0.5))
    assert max(second) < first[-1]
    assert second[-1] == pytest.approx(0.02)


def test_constraints_are_abstract():
    with pytest.raises(TypeError):
        Constraint()
