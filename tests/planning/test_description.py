import json

import pytest

from toolchain.amounts import QuantSpec
from toolchain.planning.description import announce, describe_plan
from toolchain.planning.plan import Plan, PruneGroup, PruneSchedule, PruneStep, QuantizeStep, TrainOptions
from toolchain.structures import GROUPS

PRUNE = PruneStep((PruneGroup(("a", "b"), 10, 360), PruneGroup(("c",), 20, 40)), total=500)
QUANTIZE = QuantizeStep((("a", QuantSpec("uniform", 2)), ("b", QuantSpec("uniform", 2)), ("c", QuantSpec("binary", 1))))


def test_the_description_is_json_with_every_count():
    entries = json.loads(json.dumps(describe_plan(Plan((PRUNE, QUANTIZE), TrainOptions(epochs=2)))))
    prune, quantize, train = entries
    assert (prune["step"], prune["total"], prune["kept"], prune["ratio"]) == ("prune", 500, 130, 500 / 130)
    assert prune["groups"][0] == {
        "names": ["a", "b"],
        "kept": 10,
        "size": 360,
        "ratio": 36.0,
        "structure": "unstructured",
    }
    assert quantize["targets"][2] == {"name": "c", "kind": "binary", "bits": 1}
    assert (train["step"], train["epochs"], train["seed"]) == ("train", 2, 0)


def test_each_step_is_one_sentence_for_people():
    plan = Plan((PRUNE, QUANTIZE), TrainOptions(budget_s=600))
    assert [entry["says"] for entry in describe_plan(plan)] == [
        "prune 3 tensors to 130 of 500 weights (3.846x)",
        "quantize 2 tensors to 2bit, 1 tensor to binary",
        "train within 600 s, batches of 64",
    ]


def test_the_plan_is_one_line_in_the_terminal():
    plan = Plan((PRUNE, QUANTIZE), TrainOptions(epochs=0))
    assert announce(plan) == (
        "Plan: prune 3 tensors to 130 of 500 weights (3.846x); then quantize 2 tensors to 2bit, 1 tensor to binary; "
        "then no training: calibrate and project only."
    )


def test_structures_are_counted_and_what_stays_dense_says_why():
    groups = (PruneGroup(("a", "b"), 100, 400, GROUPS), PruneGroup(("c",), 20, 40))
    step = PruneStep(groups, 600, (("d", "it is narrow"), ("e", "it is narrow"), ("f", "it is deep")))
    (entry, _) = json.loads(json.dumps(describe_plan(Plan((step,)))))
    assert entry["says"] == (
        "prune 3 tensors (2 groups, 1 unstructured) to 280 of 600 weights (2.143x); "
        "3 stay dense: d, e (it is narrow); f (it is deep)"
    )
    assert [group["structure"] for group in entry["groups"]] == ["groups", "unstructured"]
    assert entry["skipped"][2] == {"name": "f", "reason": "it is deep"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (TrainOptions(epochs=0), "no training: calibrate and project only"),
        (TrainOptions(epochs=1, batch_size=8), "train for 1 epoch, batches of 8"),
        (TrainOptions(), "train for 30 epochs or 10 minutes, whichever ends first, batches of 64"),
    ],
)
def test_the_length_of_training_is_said_in_words(options, sentence):
    assert describe_plan(Plan((QUANTIZE,), options))[-1]["says"] == sentence


def test_the_description_has_how_admm_goes_about():
    schedule = PruneSchedule(schedule="progressive", score="lamp", allocate="ms")
    prune = describe_plan(Plan((PRUNE,), prune_schedule=schedule))[0]
    assert (prune["schedule"], prune["score"], prune["allocate"]) == ("progressive", "lamp", "ms")
