import itertools

import numpy as np
import torch

from passes.trainer import Best, Score


def test_every_sample_is_seen_once_an_epoch(trainer):
    batches = itertools.islice(trainer.batches(), trainer.steps_per_epoch)
    seen = np.concatenate([batch.inputs["x"] for batch in batches])
    assert len(np.unique(seen, axis=0)) == len(seen) == 288


def test_the_loss_decides_whatever_the_accuracy():
    assert Score(0.8, 0.1).better_than(Score(0.9, 0.2))
    assert Score(None, 0.1).better_than(Score(None, 0.2))
    assert not Score(0.9, 0.1).better_than(Score(0.9, 0.1))


def test_a_best_state_gives_back_weights_and_formats(trainer):
    saved = Best.of(trainer.module, Score(0.5, 1.0))
    weight = trainer.module.tensor("w1")
    before = weight.detach().clone()
    with torch.no_grad():
        weight.zero_()
    saved.restore(trainer.module)
    assert torch.equal(trainer.module.tensor("w1"), before)
    assert trainer.module.formats == {}


def test_the_untouched_model_answers_every_label_of_its_own_teacher(trainer):
    score = trainer.evaluate()
    assert score.accuracy == 1.0
    assert score.loss >= 0


def test_judging_costs_an_evaluation_two_comparisons_and_what_statistics_are_taken_from(trainer, monkeypatch):
    assert trainer.judging_steps == 100 / (4 * 32)
    monkeypatch.setattr("passes.trainer.normalizations", lambda _: ["a normalization"])
    assert trainer.judging_steps == 3 * 100 / (4 * 32) + trainer.steps_per_epoch / 4
    monkeypatch.setattr("passes.trainer.COMPARED_BATCHES", 1)
    assert trainer.judging_steps == (1 + 2 / 3) * 100 / (4 * 32) + trainer.steps_per_epoch / 4
    trainer.moves_normalization = False
    assert trainer.judging_steps == 100 / (4 * 32)


def test_statistics_are_re_estimated_where_that_helps_and_else_stay_bit_for_bit(make_trainer):
    trainer = make_trainer(normalised=True)
    trainer.settle()  # the module is its own teacher: nothing answers more like it
    assert torch.equal(trainer.module.tensor("m"), torch.zeros(16))
    assert torch.equal(trainer.module.tensor("v"), torch.ones(16))
    with torch.no_grad():
        trainer.module.tensor("w1").mul_(3.0)
    before = trainer.evaluate()
    trainer.settle()
    assert trainer.evaluate().better_than(before)
    assert not torch.equal(trainer.module.tensor("v"), torch.ones(16))


def test_an_epoch_has_as_many_steps_as_batches_of_the_size_that_the_model_insists_on(make_trainer):
    assert make_trainer(batch=100).steps_per_epoch == 3  # of 300 samples; it was told 32 at a time


def test_a_part_of_the_selection_data_is_every_so_manieth_batch(make_trainer):
    whole, part = make_trainer(), make_trainer()
    rows = np.arange(len(part.selection))
    part.selection = part.selection.subset(rows[rows // 32 % 2 == 0])
    for trainer in (whole, part):
        with torch.no_grad():
            trainer.module.tensor("w1").zero_()  # so that there is a loss, another one for every batch

    assert whole.evaluate(every=2) == part.evaluate() != whole.evaluate()


def test_half_precision_multiplies_coarsely_and_leaves_the_rest_exact(make_trainer):
    exact, coarse = make_trainer(), make_trainer(precision=torch.bfloat16)
    inputs, _ = exact.tensors(next(exact.batches()))
    here = exact.outputs(exact.module, inputs)
    there = coarse.outputs(coarse.module, inputs)
    for name, value in here.items():
        assert there[name].dtype == torch.float32
        assert 0 < float((there[name] - value).detach().abs().max()) < 0.05 * float(value.detach().abs().max())
    assert coarse.evaluate() == exact.evaluate()
    assert all(weight.dtype == torch.float32 for weight in coarse.module.parameters())
