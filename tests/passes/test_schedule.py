import pytest

from passes.schedule import SCHEDULES, Schedule

STEPS = [step / 300 for step in range(300)]


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_pull_ends_at_rho_and_never_falls(name):
    schedule = SCHEDULES[name]
    pulls = [schedule.pull(done, schedule.first_pull) for done in STEPS]
    assert pulls == sorted(pulls)
    assert pulls[-1] == pytest.approx(schedule.rho, rel=0.01)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_set_tightens_to_its_target_in_time(name):
    tightened = [SCHEDULES[name].tightening(done) for done in STEPS]
    assert tightened == sorted(tightened)
    assert tightened[-1] == 1.0
    assert tightened[250] == 1.0


@pytest.mark.parametrize("name", [name for name, schedule in SCHEDULES.items() if schedule.update_every is None])
def test_a_number_of_updates_is_kept_whatever_the_steps(name):
    schedule = SCHEDULES[name]
    pairs = zip([0.0, *STEPS], STEPS, strict=False)
    updates = sum(schedule.is_update(step, before, done) for step, (before, done) in enumerate(pairs))
    assert updates == schedule.updates


def test_frequent_updates_come_every_few_steps():
    schedule = Schedule(update_every=32)
    assert [step for step in range(100) if schedule.is_update(step, 0.0, 0.0)] == [0, 32, 64, 96]


def test_a_balanced_pull_follows_the_residuals():
    schedule = Schedule(rho=0.08, ramp="balanced")
    assert schedule.balance(0.01, primal=11.0, dual=1.0) == 0.02
    assert schedule.balance(0.01, primal=1.0, dual=11.0) == 0.005
    assert schedule.balance(0.01, primal=1.0, dual=1.0) == 0.01
    assert schedule.balance(0.06, primal=11.0, dual=1.0) == 0.08


def test_the_learning_rate_restarts_at_each_update():
    schedule = Schedule(update_every=None, updates=10, restarts=True)
    assert schedule.learning_rate(0.2) == pytest.approx(1.0)
    assert schedule.learning_rate(0.1999) == pytest.approx(0.02, abs=1e-3)
    assert Schedule().learning_rate(0.2) is None


def test_stages_are_equal_parts():
    schedule = Schedule(path="stages", stages=2)
    assert [schedule.stage(done) for done in (0.0, 0.49, 0.5, 1.0)] == [0, 0, 1, 1]
    assert [schedule.tightening(done) for done in (0.0, 0.5)] == [0.5, 1.0]


def test_weights_are_fixed_in_equal_parts_of_the_last_fifth():
    schedule = Schedule(snaps=3)
    shares = [schedule.snapped(done) for done in (0.0, 0.79, 0.8, 0.86, 0.87, 0.94, 0.99, 1.0)]
    assert shares == [0.0, 0.0, 0.25, 0.25, 0.5, 0.75, 0.75, 1.0]
    assert [Schedule().snapped(done) for done in (0.0, 0.8, 1.0)] == [0.0] * 3
