import time

import pytest
import torch

from passes import rate
from passes.allowance import Allowance
from passes.rate import LEAST, LEAST_STEPS, MOST, STEPS, find_learning_rate


def test_steps_of_the_rate_do_little_harm_and_of_ten_times_the_rate_much(make_trainer):
    trainer = make_trainer()
    found = find_learning_rate(trainer, Allowance())
    assert LEAST < found < MOST
    harm = {}
    for factor in (0.3, 10):
        tried = make_trainer()
        optimizer = torch.optim.Adam(tried.module.parameters(), factor * found)
        before = tried.evaluate().loss
        for _ in range(20):
            optimizer.zero_grad()
            rate.add_gradient(tried, next(tried.batches()), 0.0)
            optimizer.step()
        harm[factor] = tried.evaluate().loss - before
    assert harm[10] > 10 * abs(harm[0.3])


def test_a_shorter_test_is_trusted_less_far(make_trainer, monkeypatch):
    monkeypatch.setattr(rate, "add_gradient", lambda *_: 0.0)  # no step does harm
    whole, half = (find_learning_rate(make_trainer(), Allowance(steps=steps)) for steps in (STEPS, STEPS // 2))
    assert MOST / 1.2 < whole <= MOST
    assert 0.6 < half / whole < 0.75


def test_the_model_and_the_order_of_its_batches_are_left_as_they_were(make_trainer):
    trainer = make_trainer()
    before = {key: value.clone() for key, value in trainer.module.state_dict().items()}
    state = trainer.rng.bit_generator.state
    find_learning_rate(trainer, Allowance())
    assert all(torch.equal(value, before[key]) for key, value in trainer.module.state_dict().items())
    assert all(weight.grad is None for weight in trainer.module.parameters())
    assert trainer.rng.bit_generator.state == state


def test_the_same_model_and_data_give_the_same_rate(make_trainer):
    assert find_learning_rate(make_trainer(), Allowance()) == find_learning_rate(make_trainer(), Allowance())


@pytest.mark.parametrize("steps", [0, 1, LEAST_STEPS - 1])
def test_nothing_is_found_in_few_steps(trainer, steps):
    assert find_learning_rate(trainer, Allowance(steps=steps)) is None


def test_nothing_is_looked_for_where_the_first_step_shows_that_there_is_no_time(trainer, monkeypatch):
    slow = rate.add_gradient

    def gradient(*arguments):
        time.sleep(0.05)
        return slow(*arguments)

    monkeypatch.setattr(rate, "add_gradient", gradient)
    started = time.monotonic()
    assert find_learning_rate(trainer, Allowance(seconds=0.2)) is None
    assert time.monotonic() - started < 0.2
