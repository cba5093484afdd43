import numpy as np

from toolchain.bench.estimate import STATISTICS, bootstrap, interval, noise, summarize


def speedup_interval(rounds):
    medians = bootstrap(rounds)[:, 0]
    return interval(medians[:, 0] / medians[:, 1])


def test_percentiles_are_those_of_all_runs():
    figures = summarize(np.arange(1.0, 1001.0))

    assert (figures["p50_ms"], figures["runs"]) == (500.5, 1000)
    assert 900 < figures["p90_ms"] < 901
    assert 990 < figures["p99_ms"] < 991
    assert len(figures["quantiles_ms"]) == 200


def test_a_short_series_keeps_every_run_as_a_quantile():
    figures = summarize(np.array([3.0, 1.0, 2.0]))

    assert figures["p50_ms"] == 2.0
    assert figures["runs"] == len(figures["quantiles_ms"]) == 3


def test_the_interval_covers_a_true_speedup_and_is_narrow_for_clean_times():
    rng = np.random.default_rng(0)
    rounds = [np.stack([2 + 0.1 * rng.random(300), 1 + 0.05 * rng.random(300)], axis=1) for _ in range(4)]

    low, high = speedup_interval(rounds)

    assert low < 2.0 < high
    assert high - low < 0.05


def test_the_interval_of_equal_files_includes_one_although_their_sessions_differ():
    rng = np.random.default_rng(0)
    offsets = (0.99, 1.01, 1.0, 0.995, 1.005, 1.012)
    rounds = [
        np.stack([np.full(200, 1.0), np.full(200, offset)], axis=1) + 1e-4 * rng.random((200, 2)) for offset in offsets
    ]

    low, high = speedup_interval(rounds)

    assert low < 1 < high


def test_a_slow_spell_that_hits_all_models_widens_their_medians_but_not_their_ratio():
    rng = np.random.default_rng(0)
    machine = np.repeat([1.0, 1.5, 1.0, 1.5], 100)[:, None]
    rounds = [machine * (np.array([2.0, 1.0]) + 0.01 * rng.random((400, 2))) for _ in range(4)]

    medians = bootstrap(rounds)[:, 0]
    first, ratio = interval(medians[:, 0]), interval(medians[:, 0] / medians[:, 1])

    assert first[1] - first[0] > 0.2
    assert ratio[1] - ratio[0] < 0.05


def test_the_bootstrap_is_reproducible_and_takes_any_number_of_models():
    rounds = [np.random.default_rng(3).random((50, 3)) + 1]

    drawn = bootstrap(rounds)

    assert drawn.shape == (1000, 4, 3)
    assert (drawn == bootstrap(rounds)).all()


def test_every_statistic_lies_in_its_own_interval():
    times = 1 + np.random.default_rng(5).random((400, 1))
    figures = summarize(times[:, 0])

    drawn = bootstrap([times])

    for row, name in enumerate(STATISTICS):
        low, high = interval(drawn[:, row, 0])
        assert low <= figures[f"{name}_ms"] <= high


def test_a_narrow_interval_is_not_noisy_and_neither_is_a_clear_difference():
    assert noise(1.0, (0.98, 1.02), preempted_per_s=100) == ""
    assert noise(3.0, (2.0, 4.0), preempted_per_s=100) == ""
    assert noise(0.9, (0.8, 0.99), preempted_per_s=100) == ""


def test_an_interval_that_cannot_tell_says_how_wide_it_is_and_who_disturbed():
    assert noise(1.0, (0.9, 1.1), 100.0) == (
        "the interval 0.90 to 1.10 is 20% wide; other processes took the processor away 100 times a second"
    )
    assert noise(1.0, (0.9, 1.1), 1.0) == noise(1.0, (0.9, 1.1), None) == "the interval 0.90 to 1.10 is 20% wide"


def test_a_single_turn_is_its_own_interval():
    drawn = bootstrap([np.array([[2.0, 3.0]])])

    assert (drawn == [2.0, 3.0]).all()


def test_resamples_are_percentiles_of_whole_turns_drawn():
    times = np.array([[1.0], [2.0], [10.0]])

    drawn = bootstrap([times])[:, 0, 0]

    assert set(drawn) <= {1.0, 2.0, 10.0}
    assert len(set(drawn)) == 3
