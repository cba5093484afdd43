from passes.allowance import Allowance


def test_the_first_limit_reached_ends_a_phase():
    allowance = Allowance(steps=10, seconds=100.0)
    assert allowance.done(5, 10.0) == 0.5
    assert allowance.done(1, 90.0) == 0.9
    assert allowance.share(0.5) == Allowance(5, 50.0)


def test_no_steps_or_no_time_is_no_training():
    assert Allowance(steps=0).is_empty
    assert Allowance(seconds=0.0).is_empty
    assert not Allowance(steps=1, seconds=1.0).is_empty
