"""Nodes whose 8-bit activations hurt are found by what they do to the outputs."""

import numpy as np
import pytest
import torch

from calibration.observers import make_grid
from toolchain.export import sensitivity
from toolchain.export.runs import rounded_values
from toolchain.export.sensitivity import LIMIT, Meter, _fewest, find_loss

EIGHT = tuple(range(-127, 128))
TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 8] x) => (float[N, 8] y) {
  [first] a = MatMul (x, w)
  r = Relu (a)
  [second] b = MatMul (r, v)
  s = Mul (b, k)
  [third] y = MatMul (s, u)
}
"""
SHAPES = {"w": (8, 8), "v": (8, 8), "u": (8, 8)}
NODES = ("first", "second", "third")


@pytest.fixture
def module(build, compress):
    made = build(TEXT.replace("y) {", "y) <float[8] k = {1000.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0}> {"), SHAPES)
    made.tensor("u").data[0] = 0.0  # the channel that is a thousand times as large has no part in the output
    compress(made, 1.0, EIGHT)
    return made


def batches():
    rng = np.random.default_rng(3)
    return [{"x": rng.standard_normal((16, 8)).astype(np.float32)} for _ in range(2)]


def grids_of(module, names):
    with torch.no_grad():
        values = module.run(batches()[0], list(names))
    return {name: make_grid(float(value.min()), float(value.max())) for name, value in values.items()}


def test_a_node_that_hurts_is_left_in_float_with_the_reason(module):
    grids = grids_of(module, rounded_values(module.graph, dict.fromkeys(NODES, "int8")))
    formats = dict(module.formats)
    loss = find_loss(Meter(module, batches()), NODES, grids)
    assert set(loss.hurt) == {"third"}
    assert loss.all > LIMIT >= loss.kept
    assert loss.reasons()["third"].startswith("its 8-bit activations alone move the outputs by ")
    assert module.formats == formats


def test_nothing_is_left_out_where_nothing_hurts(module):
    names = ("first", "second")
    grids = grids_of(module, rounded_values(module.graph, dict.fromkeys(names, "int8")))
    loss = find_loss(Meter(module, batches()), names, grids)
    assert loss.hurt == {}
    assert 0 < loss.all == loss.kept <= LIMIT


def let_pass(monkeypatch, seconds):
    """Let so many seconds pass between two looks at the clock."""
    now = iter(range(0, 100 * seconds, seconds))
    monkeypatch.setattr(sensitivity.time, "monotonic", lambda: next(now))


def test_nodes_with_the_coarsest_steps_come_first_and_the_others_are_counted(module, monkeypatch):
    grids = grids_of(module, rounded_values(module.graph, dict.fromkeys(NODES, "int8")))
    let_pass(monkeypatch, 31)  # one node
    loss = find_loss(Meter(module, batches()), NODES, grids)
    assert list(loss.hurt) == ["third"]
    assert loss.hurt["third"] > LIMIT
    assert loss.unmeasured == 2
    assert "of 2 of 3 nodes do alone; 0 of them stay in float" in loss.note()


def test_a_node_that_was_not_reached_stays_float_only_where_the_outputs_are_off_else(module, monkeypatch):
    grids = grids_of(module, rounded_values(module.graph, dict.fromkeys(NODES, "int8")))
    let_pass(monkeypatch, 61)  # none
    loss = find_loss(Meter(module, batches()), NODES, grids)
    assert loss.kept <= LIMIT
    assert set(loss.hurt.values()) == {None}
    assert "third" in loss.hurt
    assert loss.reasons()["third"].startswith("there was no time to measure its 8-bit activations alone; of ")
    assert f"of 3 of 3 nodes do alone; {len(loss.hurt)} of them stay" in loss.note()


def test_what_harmed_little_goes_after_what_may_have_harmed_more(monkeypatch):
    alone = {"worst": 0.5, "little": LIMIT / 100}
    let_pass(monkeypatch, 25)  # two nodes of four

    class Known:
        """A meter of a graph in which every node but ``unseen`` and ``other`` does what ``alone`` says."""

        module = None

        def loss(self, nodes, _):
            return alone[nodes[0]] if len(nodes) == 1 and nodes[0] in alone else 2 * LIMIT * ("unseen" in nodes)

    monkeypatch.setattr(sensitivity, "_coarsest_first", lambda *_: ["worst", "little", "unseen", "other"])
    loss = find_loss(Known(), ["worst", "little", "unseen", "other"], {})
    assert list(loss.hurt) == ["worst", "unseen"]
    assert loss.unmeasured == 2


@pytest.mark.parametrize(("needed", "most"), [(1, 1), (1, 9), (3, 9), (5, 9), (8, 9), (9, 9)])
def test_the_fewest_are_left_out_that_suffice(needed, most):
    assert _fewest(lambda left: 0.0 if left >= needed else 1.0, most) == needed


def test_of_a_model_of_classes_alone_the_part_that_changes_is_measured(build, compress):
    text = TEXT.replace("float[N, 8] y) {", "int64[N] c) <float[8] k = {1000.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0}> {")
    made = build(text.replace("(s, u)", "(s, u) c = ArgMax <axis = 1, keepdims = 0> (y)"), SHAPES)
    made.tensor("u").data[0] = 0.0
    compress(made, 1.0, EIGHT)
    grids, meter = grids_of(made, rounded_values(made.graph, dict.fromkeys(NODES, "int8"))), Meter(made, batches())
    loss = meter.loss(["third"], grids)
    assert loss in {(count / 32) ** 2 for count in range(1, 33)}
    assert set(find_loss(meter, NODES, grids).hurt) == {"third"}
