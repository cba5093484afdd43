"""Tensors that destroy the outputs when rounded stay float; where nothing is wrong one evaluation says so."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from passes import sparing
from passes.constraints import Levels, LevelTarget
from passes.projection import project_onto
from passes.snapshot import Snapshot
from passes.sparing import LIMIT, Spared, _Gauge, describe_spared, spare
from passes.trainer import Trainer

TARGETS = {"w1": LevelTarget((-3, -1, 1, 3), None), "w2": LevelTarget((-3, -1, 1, 3), None)}
EIGHT = {name: LevelTarget(tuple(range(-127, 128)), None) for name in TARGETS}


@pytest.fixture
def evaluations(monkeypatch):
    counted, evaluate = [], Trainer.evaluate

    def count(trainer, every=1):
        counted.append(trainer)
        return evaluate(trainer, every)

    monkeypatch.setattr(Trainer, "evaluate", count)
    return counted


@torch.no_grad()
def silence(trainer, unit, values):
    """Let a hidden unit answer 0 to everything, and give it outliers by the tensor that multiplies it."""
    for model in (trainer.module, trainer.teacher):
        model.tensor("w1")[unit] = 0.0
        model.tensor("b1")[unit] = -100.0
        model.tensor("w2")[:, unit] = values


def round_all(trainer, targets):
    """Round the tensors; return what they were, and what rounds all but some of them."""
    before = Snapshot.of(trainer.module)

    def without(names):
        before.restore(trainer.module)
        rest = {name: target for name, target in targets.items() if name not in names}
        project_onto(trainer.module, tuple(rest), Levels(rest))

    without(())
    return before, without


def test_a_tensor_whose_outliers_make_its_steps_too_coarse_stays_float(trainer):
    silence(trainer, 5, 1e4)
    before, without = round_all(trainer, TARGETS)
    rounded = trainer.module.tensor("w1").clone()
    found = spare(trainer, before, TARGETS, without)
    assert list(found.losses) == ["w2"]
    assert found.losses["w2"] > LIMIT
    assert found.unmeasured == 0
    assert "w2" not in trainer.module.formats
    assert torch.equal(trainer.module.tensor("w2"), trainer.teacher.tensor("w2"))
    assert torch.equal(trainer.module.tensor("w1"), rounded)


def test_an_ordinary_model_is_evaluated_once_and_stays_as_it_is(trainer, evaluations):
    before, without = round_all(trainer, EIGHT)
    rounded = Snapshot.of(trainer.module)
    assert spare(trainer, before, EIGHT, without) == Spared()
    assert len(evaluations) == 1
    assert all(torch.equal(value, rounded.tensors[key]) for key, value in trainer.module.state_dict().items())
    assert trainer.module.formats == rounded.formats


def test_what_was_meaningless_before_it_was_rounded_is_no_fault_of_the_rounding(trainer, evaluations):
    with torch.no_grad():
        trainer.module.tensor("w2").mul_(-30)
    before, without = round_all(trainer, EIGHT)
    rounded = trainer.module.tensor("w2").clone()
    assert spare(trainer, before, EIGHT, without) == Spared()
    assert len(evaluations) == 2
    assert torch.equal(trainer.module.tensor("w2"), rounded)


def test_what_rounding_adds_counts_and_not_what_pruning_lost_before(trainer, monkeypatch):
    with torch.no_grad():
        trainer.module.tensor("w2").mul_(0.2)
    before, without = round_all(trainer, TARGETS)
    gauge = _Gauge.of(trainer)
    whole, rounded = gauge.loss(), Snapshot.of(trainer.module)
    before.restore(trainer.module)
    monkeypatch.setattr(sparing, "LIMIT", (max(whole, gauge.loss()) + min(whole, gauge.loss())) / 2)
    rounded.restore(trainer.module)
    assert spare(trainer, before, TARGETS, without) == Spared()
    assert trainer.module.formats.keys() == TARGETS.keys()


def test_tensors_stay_rounded_where_leaving_out_the_guilty_does_not_help(trainer):
    silence(trainer, 5, 1e4)
    before, without = round_all(trainer, TARGETS)
    rounded = trainer.module.tensor("w2").clone()
    assert spare(trainer, before, TARGETS, lambda _: without(())).losses == {}
    assert torch.equal(trainer.module.tensor("w2"), rounded)
    assert trainer.module.formats.keys() == TARGETS.keys()


def test_where_there_are_too_few_bits_for_all_only_what_helps_much_stays_float(trainer, monkeypatch):
    monkeypatch.setattr(sparing, "LIMIT", 0.01)  # so that w1 is guilty too, and leaving both out is not enough
    silence(trainer, 5, 1e4)
    before, without = round_all(trainer, TARGETS)

    def spoil(names):
        without(names)
        trainer.module.tensor("b1").add_(1.0)

    found = spare(trainer, before, TARGETS, spoil)
    assert list(found.losses) == ["w2"]
    assert trainer.module.formats.keys() == {"w1"}


def test_answers_that_are_the_same_to_all_inputs_are_meaningless_however_near_they_come(trainer):
    with torch.no_grad():
        for model in (trainer.module, trainer.teacher):
            model.tensor("b1").add_(20.0)  # a large mean, about which answers vary a little
        trainer.module.tensor("w1").zero_()
        inputs = trainer.tensors(trainer.selection.batch(np.arange(50)))[0]
        given, wanted = (model(inputs)["y"] for model in (trainer.module, trainer.teacher))
    assert float((given - wanted).square().sum() / wanted.square().sum()) < 0.05
    assert _Gauge.of(trainer).loss() > LIMIT


def test_tensors_that_there_is_no_time_for_are_counted(trainer, monkeypatch):
    silence(trainer, 5, 1e4)
    now = iter(range(0, 10_000, 45))
    monkeypatch.setattr(sparing.time, "monotonic", lambda: next(now))
    before, without = round_all(trainer, TARGETS)
    found = spare(trainer, before, TARGETS, without)
    assert list(found.losses) == ["w2"]  # the one with outliers was taken first
    assert found.unmeasured == 1
    assert "no time to round 1 of the 2 alone" in describe_spared(found, TARGETS, trainer.module)[1]


def test_where_the_time_is_over_all_that_are_known_to_be_guilty_go_at_once(trainer, monkeypatch):
    silence(trainer, 5, 1e4)
    with torch.no_grad():
        for model in (trainer.module, trainer.teacher):
            model.tensor("w1")[5, 0] = -1e4
            model.tensor("b1")[5] = -1e6
    before, without = round_all(trainer, TARGETS)
    asked = []
    now = iter([0, 10, 20, 100, 110])
    monkeypatch.setattr(sparing.time, "monotonic", lambda: next(now))
    found = spare(trainer, before, TARGETS, lambda names: asked.append(list(names)) or without(names))
    assert [sorted(names) for names in asked] == [["w1", "w2"]]
    assert found.losses.keys() == TARGETS.keys()


def test_outputs_that_are_no_numbers_are_as_bad_as_can_be(trainer):
    before, without = round_all(trainer, EIGHT)
    with torch.no_grad():
        trainer.module.tensor("w2")[0, 0] = math.nan
    found = spare(trainer, before, EIGHT, without)
    assert found == Spared()  # no tensor alone does it


@pytest.mark.parametrize("labelled", [True, False])
def test_labels_that_the_original_gets_wrong_do_not_count(trainer, labelled):
    labels = (trainer.selection.labels + 1) % 3 if labelled else None
    trainer = replace(trainer, selection=replace(trainer.selection, labels=labels))
    before, without = round_all(trainer, EIGHT)
    assert spare(trainer, before, EIGHT, without) == Spared()


def test_the_report_says_what_a_tensor_does_and_what_it_costs_to_keep_it(trainer):
    (note,) = describe_spared(Spared({"w2": 123.4}), TARGETS, trainer.module)
    assert note == (
        "'w2' stays float: with it alone rounded to 2 bits, the outputs are 123 times as far off as one mean "
        "answer to all inputs; its values take 192 bytes in place of 12."
    )
    (note,) = describe_spared(Spared({"w2": math.inf}), TARGETS, trainer.module)
    assert "the outputs are no numbers; its values" in note
