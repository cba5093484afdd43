import io

import pytest
from rich.console import Console

from toolchain.progress import (
    Clock,
    NullProgress,
    PhaseBars,
    PlainProgress,
    TerminalProgress,
    duration,
    figures_line,
    time_left,
    watch,
)


class Hand:
    """A clock that a test moves by hand."""

    def __init__(self):
        self.seconds = 100.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def now():
    return Hand()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.4, "59s"), (59.6, "1m00s"), (187, "3m07s"), (3599.7, "1h00m"), (7325, "2h02m")]
)
def test_durations_read_as_people_say_them(seconds, text):
    assert duration(seconds) == text


def test_time_left_of_a_phase_is_by_proportion_from_its_first_report_on(now):
    clock = Clock(now)
    clock.phase(None)
    now.seconds += 25  # of starting, which is done once
    clock.update(0.25)
    assert clock.phase_left() is None
    now.seconds += 10
    clock.update(0.5)
    assert clock.phase_left() == 20
    assert clock.job_left() is None


def test_time_left_of_the_job_counts_the_phases_behind_it(now):
    clock = Clock(now)
    clock.phase(0.2)
    for done in (0.5, 1.0):
        now.seconds += 10
        clock.update(done)
    assert clock.job_left() == pytest.approx(80)
    clock.phase(0.8)
    for done in (0.25, 0.5):
        now.seconds += 20
        clock.update(done)
    assert clock.phase_left() == 40
    assert clock.job_left() == pytest.approx(40)
    assert time_left(clock) == "40s left (whole job 40s)"


def test_one_phase_of_unknown_weight_makes_the_job_unknown_for_good(now):
    clock = Clock(now)
    for weight in (0.2, None, 0.5):
        clock.phase(weight)
        for done in (0.25, 0.5):
            now.seconds += 2.5
            clock.update(done)
    assert clock.job_left() is None
    assert clock.phase_left() == 5


def test_a_log_gets_a_line_per_phase_and_at_most_one_per_interval(now):
    stream = io.StringIO()
    progress = PlainProgress(stream, interval_s=10, now=now)
    progress.phase("prune")
    for step in range(1, 31):
        now.seconds += 1
        progress.update(step / 60, {"kept": "2.8 %", "loss": 0.123456})
    progress.note("skipped fc.bias: bias")
    assert stream.getvalue().splitlines() == [
        "[    0s] prune",
        "[   10s] prune 17%, 50s left, kept 2.8 %, loss 0.1235",
        "[   20s] prune 33%, 40s left, kept 2.8 %, loss 0.1235",
        "[   30s] prune 50%, 30s left, kept 2.8 %, loss 0.1235",
        "[   30s] skipped fc.bias: bias",
    ]


def test_without_an_interval_every_report_is_a_line(now):
    stream = io.StringIO()
    progress = PlainProgress(stream, interval_s=0, now=now)
    for _ in range(3):
        progress.update(0.0, {})
    assert len(stream.getvalue().splitlines()) == 3


def test_figures_keep_four_digits_and_texts_stay_as_they_are():
    figures = {"loss": 0.000123456, "epoch": "3 of 10", "weights": 12345, "norm": 1234.5, "rho": 2.0, "step": 7}
    assert figures_line(figures) == "loss 0.0001235, epoch 3 of 10, weights 12,345, norm 1,234, rho 2, step 7"


def test_a_terminal_shows_one_bar_per_phase_and_names_are_not_markup():
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=60)
    with PhaseBars(console, auto_refresh=False) as bars:
        progress = TerminalProgress(bars)
        progress.phase("prune [bold]")
        progress.update(0.5, {"kept": "2.8 %", "loss": 1.0})
        bars.refresh()
        progress.note("note [red]")
        progress.phase("quantize", 0.5)
        progress.finish()
        assert [task.completed for task in bars.tasks] == [1.0, 1.0]
    text = stream.getvalue()
    assert "prune [bold]" in text
    assert "kept 2.8 %, loss 1" in text
    assert "note [red]" in text


def test_quiet_shows_nothing_and_a_pipe_gets_lines(capsys):
    for quiet in (True, False):
        with watch(quiet=quiet) as progress:
            assert isinstance(progress, NullProgress if quiet else PlainProgress)
            progress.phase("load")
            progress.update(0.5, {"loss": 1.0})
            progress.note("a note")
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.splitlines() == ["[    0s] load", "[    0s] a note"]


def test_verbose_gives_lines_for_every_report(capsys):
    with watch(verbose=True) as progress:
        progress.phase("load")
        progress.update(0.0, {"loss": 1.0})
    assert "loss 1" in capsys.readouterr().err


def test_time_left_of_a_phase_that_goes_on_counts_from_there(now):
    clock = Clock(now)
    clock.phase(0.5, done=1.0)
    clock.phase(0.5, done=0.6)
    assert clock.phase_left() is None
    for done in (0.65, 0.7):
        now.seconds += 5
        clock.update(done)
    assert clock.phase_left() == pytest.approx(30)
    assert clock.job_left() == pytest.approx(30)


def test_a_log_says_how_far_a_phase_is_that_goes_on(now):
    stream = io.StringIO()
    PlainProgress(stream, now=now).phase("prune", None, 0.4)
    assert "prune, 40% done before" in stream.getvalue()
