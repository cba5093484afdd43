import time

import onnx.parser
import pytest

from passes.allowance import Allowance
from toolchain.graph import load_graph
from toolchain.planning.plan import Plan, TrainOptions
from toolchain.planning.request import Request, read_request
from toolchain.planning.resolve import make_plan
from toolchain.running.deadline import Deadline, PhaseLength, deadline_for, overrun, shortage

LINEAR = """
<ir_version: 8, opset_import: ["" : 17]>
linear (float[N, 2] x) => (float[N, 2] y) <float[2, 2] w = {1, 2, 3, 4}> { y = MatMul(x, w) }
"""


@pytest.fixture
def steps():
    return make_plan(load_graph(onnx.parser.parse_model(LINEAR)), read_request(Request(prune="2x"))).steps


def test_what_a_phase_leaves_over_goes_to_the_next():
    deadline = Deadline(None, time.monotonic() + 100)
    first = deadline.take(0.5)
    assert first.seconds == pytest.approx(50, abs=1)
    assert deadline.take(0.5).seconds == pytest.approx(100, abs=1)


@pytest.mark.parametrize("shares", [(0.6, 0.2, 0.2), (0.36, 0.24, 0.2, 0.2), (1 / 3, 1 / 3, 1 / 3)])
@pytest.mark.parametrize("steps", [1, 7, 100])
def test_all_phases_have_all_steps_together(shares, steps):
    deadline = Deadline(steps, None)
    assert sum(deadline.take(share).steps for share in shares) == steps


def test_steps_are_shared_exactly():
    deadline = Deadline(100, None)
    assert [deadline.take(share).steps for share in (0.6, 0.2, 0.2)] == [60, 20, 20]


def test_a_budget_that_has_run_out_leaves_no_training():
    assert Deadline(None, time.monotonic() - 1).take(0.5).is_empty


def test_without_epochs_and_budget_the_defaults_bound_steps_and_time(steps):
    deadline = deadline_for(Plan(steps), 10, None)
    assert deadline.steps == 300
    assert deadline.until is not None


def test_epochs_alone_bound_no_time(steps):
    plan = Plan(steps, train=TrainOptions(epochs=2))
    assert deadline_for(plan, 10, None).take(1.0) == Allowance(20, None, 0.85)


def test_the_time_that_was_left_counts_on_however_long_the_run_was_interrupted():
    earlier = Deadline(None, time.monotonic() + 100)
    earlier.take(0.6)
    state = earlier.state()
    later = Deadline(None, time.monotonic() - 1000)
    later.restore(state)
    assert later.take(0.2).seconds == pytest.approx(50, abs=1)
    assert later.take(0.2).seconds == pytest.approx(100, abs=1)


def test_a_phase_is_as_long_as_its_steps_against_what_its_share_of_the_default_is():
    assert Deadline(None, 0.0).length("prune", 0.6, 25, 10) == PhaseLength("prune", 25, 2.5, pytest.approx(18))
    assert Deadline(100, None).length("prune", 0.6, 60, 10) == PhaseLength("prune", 60, 6.0, pytest.approx(6))


def test_phases_that_time_cut_short_are_told_and_whether_to_too_few_epochs():
    long, cut = PhaseLength("prune", 100, 10.0, 18.0), PhaseLength("train survivors", 8, 0.8, 12.0)
    asked = PhaseLength("quantize", 10, 1.0, 1.0)
    assert shortage([asked]) == ""
    assert shortage([long, asked]) == "The time allowed 10.0 of 18.0 epochs for 'prune'."
    sentence = shortage([long, cut, asked])
    assert sentence.startswith("Too few steps: the time allowed 10.0 of 18.0 epochs for 'prune', 0.8 of 12.0 epochs")
    assert "quantize" not in sentence


def test_a_job_that_took_longer_than_its_budget_says_by_what():
    timings = {"load_s": 2.0, "train_s": 190.0, "total_s": 237.0}
    assert overrun(None, timings) == overrun(240, timings) == ""
    expected = (
        "The budget of 30 s was too short: the job took 237 s, 2 to load, 190 to compress, 45 to export and measure."
    )
    assert overrun(30, timings) == expected


def test_trials_take_their_share_before_all_phases():
    deadline = Deadline(1000, None)
    assert deadline.try_out(0.06).steps == 60
    again = Deadline(1000, None)
    again.restore(deadline.state())
    assert [again.take(0.5).steps, again.take(0.5).steps] == [470, 470]
    timed = Deadline(None, time.monotonic() + 100)
    assert timed.try_out(0.06).seconds == pytest.approx(6, abs=0.1)
