import itertools
from dataclasses import replace

import pytest
import torch

from passes.bits import BITS, BitChoice, choose_bits, describe_bits, drop, upgrade_path
from passes.constraints import Levels, LevelTarget
from passes.constraints.levels import levels_for
from passes.objective import Objective
from passes.projection import project_onto


def targets(bits):
    return {name: LevelTarget(levels_for(bits, pruned=False), 0) for name in ("w1", "w2")}


def by_bits():
    return {name: {bits: targets(bits)[name] for bits in BITS} for name in ("w1", "w2")}


def rounding(trainer, seen):
    def round_all(assignment):
        seen.append(dict(assignment))
        chosen = {name: by_bits()[name][bits] for name, bits in assignment.items()}
        project_onto(trainer.module, tuple(chosen), Levels(chosen))

    return round_all


def test_the_path_gives_bits_where_they_help_most_per_byte():
    losses = {"cheap": {2: 1.0, 4: 0.1, 8: 0.0}, "dear": {2: 1.0, 4: 0.1, 8: 0.0}, "flat": {2: 0.1, 4: 0.1, 8: 0.1}}
    path = upgrade_path(losses, {"cheap": 10, "dear": 1000, "flat": 10})
    assert path[0] == {"cheap": 2, "dear": 2, "flat": 2}
    assert path[1] == {"cheap": 4, "dear": 2, "flat": 2}
    assert path[-1] == {"cheap": 8, "dear": 8, "flat": 8}
    for earlier, later in itertools.pairwise(path):
        assert sum(earlier[name] != later[name] for name in earlier) == 1
        assert all(later[name] >= earlier[name] for name in earlier)


def test_a_number_of_bits_that_a_larger_one_outdoes_is_skipped():
    path = upgrade_path({"w": {2: 1.0, 3: 0.99, 4: 0.0}}, {"w": 5})
    assert path == [{"w": 2}, {"w": 4}]


def test_a_tensor_of_zeros_is_given_bits_like_any_other(trainer):
    with torch.no_grad():
        trainer.module.tensor("w1").zero_()
    assert choose_bits(trainer, by_bits(), 2.0, rounding(trainer, [])).bits["w1"] in BITS


def test_the_choice_is_within_the_limit_and_leaves_the_module_as_it_was(trainer):
    before = trainer.module.tensor("w1").clone()
    seen = []
    choice = choose_bits(trainer, by_bits(), 2.0, rounding(trainer, seen))
    assert torch.equal(trainer.module.tensor("w1"), before)
    assert not trainer.module.formats
    assert choice.within
    assert choice.drop <= 2.0
    rounding(trainer, seen)(choice.bits)
    assert drop(trainer) == pytest.approx(choice.drop)


def test_a_stricter_limit_never_takes_fewer_bits(trainer):
    sums = []
    for limit in (20.0, 2.0, 0.0):
        choice = choose_bits(trainer, by_bits(), limit, rounding(trainer, []))
        sums.append(sum(choice.bits.values()))
    assert sums == sorted(sums)


def test_where_no_bits_are_enough_no_more_is_lost_than_by_the_most_and_that_is_said(trainer, make_trainer):
    rounded = make_trainer()
    rounding(rounded, [])({"w1": 8, "w2": 8})
    least = drop(rounded)
    choice = choose_bits(trainer, by_bits(), -1.0, rounding(trainer, []))
    assert choice.drop <= least
    assert sum(choice.bits.values()) < 16
    assert not choice.within
    assert "more than the -1 that it may; more bits do not lower that" in describe_bits(choice, -1.0)
    assert "2 tensors of 8 bits" in describe_bits(BitChoice({"a": 8, "b": 8}, 0.1, within=True), 0.5)


def test_without_labels_agreement_with_the_original_counts(trainer):
    trainer.selection = replace(trainer.selection, labels=None)
    assert drop(trainer) == 0.0
    with torch.no_grad():
        trainer.module.tensor("w2").mul_(-1)
    assert drop(trainer) > 50.0


def test_of_classes_alone_those_count_that_are_the_same(make_trainer):
    trainer = make_trainer(with_class=True)
    trainer.objective = Objective(())
    trainer.selection = replace(trainer.selection, labels=None)
    assert drop(trainer) == 0.0
    with torch.no_grad():
        trainer.module.tensor("w2").mul_(-1)
    assert drop(trainer) == 100.0  # also by the scores, which are outputs here


def test_a_model_that_insists_on_many_samples_is_measured_on_so_many(make_trainer, monkeypatch):
    monkeypatch.setattr("passes.bits.SENSITIVITY_SAMPLES", 20)
    trainer = make_trainer(batch=50)
    assert choose_bits(trainer, by_bits(), 2.0, rounding(trainer, [])).within
