"""Progress of a long job: what the library tells, and how a terminal or a log shows it."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol, TextIO

from rich.console import Console, RenderableType
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text

Figures = Mapping[str, float | str]


class Progress(Protocol):
    """What a long job tells whoever watches it. Calls are cheap; a job may make them at every step."""

    def phase(self, name: str, weight: float | None = None, done: float = 0.0) -> None:
        """Begin the next phase, which ends the one before.

        Args:
            name: what is being done, such as ``"prune"``.
            weight: the expected part of the whole job's time, 0..1; None where nobody knows.
            done: how far it is already, in a job that was interrupted and goes on.
        """

    def update(self, done: float, figures: Figures) -> None:
        """Say how far the phase is.

        Args:
            done: 0..1 of the current phase, never falling.
            figures: interim figures that a person understands, by name, such as ``{"kept": "2.8 %", "loss": 0.12}``.
        """

    def note(self, text: str) -> None:
        """Say one sentence that should stay visible, such as a tensor that was skipped and why."""


class NullProgress:
    """Nobody watches."""

    def phase(self, name: str, weight: float | None = None, done: float = 0.0) -> None:
        """Do nothing."""

    def update(self, done: float, figures: Figures) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""


class Clock:
    """Time left of the phase, and of the whole job as long as every phase has had a weight.

    Of the phase by proportion: what took ``t`` seconds for the part ``p`` takes ``t * (1 - p) / p`` more, where both
    count from the first report of the phase: what a phase does before it moves, such as compiling kernels, is done
    once. Phases to come take as long per weight as this one, not as those before: loading is no guide to how fast
    training goes.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._started = self._phase_started = now()
        self._finished: float | None = 0.0
        self._weight: float | None = 0.0
        self._done = self._begun = 0.0
        self._first: tuple[float, float] | None = None  # the first report of the phase: when, and how far it was

    def phase(self, weight: float | None, done: float = 0.0) -> None:
        """Begin a phase that is the part ``weight`` of the job, or go on with it where it is ``done``."""
        known = self._finished is not None and self._weight is not None and weight is not None
        self._finished = (self._finished or 0.0) + (self._weight or 0.0) if known else None
        self._weight, self._done, self._begun, self._phase_started = weight, done, done, self._now()
        self._first = None

    def update(self, done: float) -> None:
        """Note that the part ``done`` of the phase is behind us."""
        self._done = min(max(done, 0.0), 1.0)
        if self._first is None and self._done > self._begun:
            self._first = self._now(), self._done

    def elapsed(self) -> float:
        """Return the seconds since the job began."""
        return self._now() - self._started

    def phase_elapsed(self) -> float:
        """Return the seconds since the phase began."""
        return self._now() - self._phase_started

    def phase_left(self) -> float | None:
        """Return the seconds that the phase still takes; None before its second report."""
        whole = self._phase_whole()
        return None if whole is None else whole * (1 - self._done)

    def job_left(self) -> float | None:
        """Return the seconds that the whole job still takes; None where that is not known."""
        whole = self._phase_whole()
        if self._finished is None or not self._weight or whole is None:
            return None
        to_come = max(0.0, 1 - self._finished - self._weight)
        return whole * (1 - self._done + to_come / self._weight)

    def _phase_whole(self) -> float | None:
        """Return the seconds that the phase takes from 0 to 1; None before its second report."""
        if self._first is None or self._done <= self._first[1]:
            return None
        when, done = self._first
        return (self._now() - when) / (self._done - done)


class PlainProgress:
    """One line at each change of phase and at most one per interval: for logs, and where there is no terminal."""

    def __init__(self, stream: TextIO, interval_s: float = 10.0, now: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._interval_s, self._now = stream, interval_s, now
        self._clock = Clock(now)
        self._name = ""
        self._last_line = now()

    def phase(self, name: str, weight: float | None = None, done: float = 0.0) -> None:
        """Print the phase's name, and how far it is where it goes on."""
        self._clock.phase(weight, done)
        self._name = name
        self._print(f"{name}, {done:.0%} done before" if done else name)

    def update(self, done: float, figures: Figures) -> None:
        """Print how far the phase is, unless the last line is younger than the interval."""
        self._clock.update(done)
        if self._now() - self._last_line >= self._interval_s:
            parts = [f"{self._name} {done:.0%}", time_left(self._clock), figures_line(figures)]
            self._print(", ".join(part for part in parts if part))

    def note(self, text: str) -> None:
        """Print the sentence."""
        self._print(text)

    def _print(self, text: str) -> None:
        self._last_line = self._now()
        self._stream.write(f"[{duration(self._clock.elapsed()):>6}] {text}\n")
        self._stream.flush()


class PhaseBars(Bars):
    """Bars of phases, and below them one line of interim figures that takes the whole width."""

    def __init__(self, console: Console, auto_refresh: bool = True) -> None:
        self.figures = ""
        super().__init__(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TextColumn("{task.fields[left]}", markup=False, table_column=Column(no_wrap=True)),
            console=console,
            auto_refresh=auto_refresh,
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return what is drawn: the bars and the line."""
        yield self.make_tasks_table(self.tasks)
        if self.figures:
            yield Text(self.figures, overflow="ellipsis", no_wrap=True)


class TerminalProgress:
    """One bar per phase; the finished ones stay with the time that they took."""

    def __init__(self, bars: PhaseBars) -> None:
        self._bars = bars
        self._clock = Clock()
        self._task: TaskID | None = None

    def phase(self, name: str, weight: float | None = None, done: float = 0.0) -> None:
        """Finish the last bar and begin the next."""
        self.finish()
        self._clock.phase(weight, done)
        self._task = self._bars.add_task(name, total=1.0, left="")
        self._bars.update(self._task, completed=done)

    def update(self, done: float, figures: Figures) -> None:
        """Move the bar and show the figures."""
        self._clock.update(done)
        if self._task is not None:
            self._bars.figures = figures_line(figures)
            self._bars.update(self._task, completed=done, left=time_left(self._clock))

    def note(self, text: str) -> None:
        """Print the sentence above the bars."""
        self._bars.console.print(text, markup=False, highlight=False)

    def finish(self) -> None:
        """Fill the current bar."""
        if self._task is not None:
            self._bars.figures = ""
            self._bars.update(self._task, completed=1.0, left=f"took {duration(self._clock.phase_elapsed())}")
            self._task = None


@contextmanager
def watch(quiet: bool = False, verbose: bool = False) -> Iterator[Progress]:
    """Show progress on standard error: bars on a terminal, lines elsewhere, nothing when ``quiet``.

    Args:
        quiet: show nothing.
        verbose: one line for every report, also on a terminal.
    """
    console = Console(stderr=True)
    if quiet:
        yield NullProgress()
    elif verbose or not console.is_terminal:
        yield PlainProgress(sys.stderr, interval_s=0.0 if verbose else 10.0)
    else:
        with PhaseBars(console) as bars:
            progress = TerminalProgress(bars)
            yield progress
            progress.finish()


def duration(seconds: float) -> str:
    """Return seconds as ``"42s"``, ``"3m07s"`` or ``"1h02m"``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def time_left(clock: Clock) -> str:
    """Return the time left as a person reads it; empty where it is not known."""
    phase, job = clock.phase_left(), clock.job_left()
    if phase is None:
        return ""
    return f"{duration(phase)} left" + (f" (whole job {duration(job)})" if job is not None else "")


def figures_line(figures: Figures) -> str:
    """Return interim figures as ``"kept 2.8 %, loss 0.1234, weights 11,953"``."""
    return ", ".join(f"{name} {_figure(value)}" for name, value in figures.items())


def _figure(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.4g}"
