from functools import partial

import pytest

from passes.allowance import Allowance
from passes.finetune import FinetuneStage
from passes.phase import Phase


@pytest.fixture
def done():
    return []


@pytest.fixture
def phase(done):
    return Phase("finetune", 1.0, partial(FinetuneStage, "finetune"), done.append)


def test_a_phase_trains_where_there_is_time(phase, trainer, done):
    log = phase.run(trainer, Allowance(steps=2))
    assert [entry["step"] for entry in log][-1] == 2
    assert done == []


def test_without_time_something_else_is_done_at_once(phase, trainer, done):
    assert phase.run(trainer, Allowance(steps=0)) == []
    assert done == [trainer]


def test_a_phase_goes_on_from_a_state_and_offers_it_after_every_step(phase, trainer):
    states = []
    phase.run(trainer, Allowance(steps=5), keep=lambda make: states.append(make()))
    assert [state["step"] for state in states] == [1, 2, 3, 4, 5]
    log = phase.run(trainer, Allowance(steps=8), states[4])
    assert [entry["step"] for entry in log][-1] == 8
