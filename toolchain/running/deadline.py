"""The time for training, and how phases share it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from passes.allowance import Allowance
from toolchain.checkpoint import State
from toolchain.planning.plan import DEFAULT_EPOCHS, DEFAULT_SECONDS, Plan

TRAINING_WEIGHT = 0.85  # part of the whole job's time, for the time left
FEW_EPOCHS = 3  # in a phase, with which it has hardly begun


@dataclass(frozen=True)
class PhaseLength:
    """How long a phase trained, for the report.

    Attributes:
        phase: its name.
        steps: optimizer steps that it took.
        epochs: the same in passes over the training data.
        planned_epochs: that it takes by ``--epochs`` or by default, where no time cuts it short.
    """

    phase: str
    steps: int
    epochs: float
    planned_epochs: float


@dataclass
class Deadline:
    """Shares the time for training among phases; what one phase leaves over goes to the next.

    Attributes:
        steps: optimizer steps in all, or None.
        until: ``time.monotonic()`` at which training must end, or None.
        left: share of the training that is still to come, 0..1.
        trials: steps that went into trials before.
    """

    steps: int | None
    until: float | None
    left: float = 1.0
    trials: int = 0

    def take(self, share: float) -> Allowance:
        """Return the allowance of a phase that is ``share`` of the whole training."""
        seconds = None
        if self.seconds is not None:
            seconds = self.seconds * min(1.0, share / max(self.left, 1e-9))
        self.left -= share
        steps = None
        if self.steps is not None:  # rounded where the phase ends, so that all phases have all steps together
            steps = self._steps_at(1 - self.left) - self._steps_at(1 - self.left - share)
        return Allowance(steps, seconds, TRAINING_WEIGHT * share)

    def length(self, phase: str, share: float, steps: int, steps_per_epoch: int) -> PhaseLength:
        """Return how long a phase of that share was, against what was planned for it."""
        planned = DEFAULT_EPOCHS if self.steps is None else self.steps / steps_per_epoch
        return PhaseLength(phase, steps, steps / steps_per_epoch, share * planned)

    def try_out(self, share: float) -> Allowance:
        """Return the allowance of trials before all training, which then has that share less."""
        seconds = None if self.seconds is None else share * self.seconds
        if self.steps is not None:
            self.trials = round(share * self.steps)
        return Allowance(None if self.steps is None else self.trials, seconds, TRAINING_WEIGHT * share)

    def _steps_at(self, done: float) -> int:
        return round(((self.steps or 0) - self.trials) * done)

    @property
    def seconds(self) -> float | None:
        """How long training may still take; None for no limit."""
        return None if self.until is None else max(0.0, self.until - time.monotonic())

    def state(self) -> State:
        """Return what is left."""
        return {"left": self.left, "trials": self.trials, "seconds": self.seconds}

    def restore(self, state: State) -> None:
        """Go on with what was left."""
        self.left, self.trials = state["left"], state["trials"]
        self.until = None if state["seconds"] is None else time.monotonic() + state["seconds"]


def deadline_for(plan: Plan, steps_per_epoch: int, until: float | None) -> Deadline:
    """Return the training time: the plan's epochs, its budget (``until``), or the defaults."""
    if plan.train.epochs is not None:
        return Deadline(plan.train.epochs * steps_per_epoch, None)
    if until is not None:
        return Deadline(None, until)
    return Deadline(DEFAULT_EPOCHS * steps_per_epoch, time.monotonic() + DEFAULT_SECONDS)


def shortage(phases: Sequence[PhaseLength]) -> str:
    """Return a sentence that says which phases the time cut short, and whether to a few epochs; empty where to none."""
    cut = [row for row in phases if row.epochs < 0.99 * row.planned_epochs]
    if not cut:
        return ""
    parts = ", ".join(f"{row.epochs:.1f} of {row.planned_epochs:.1f} epochs for {row.phase!r}" for row in cut)
    if any(row.epochs < FEW_EPOCHS for row in cut):
        return f"Too few steps: the time allowed {parts}; a longer --budget, or --epochs, would lose less."
    return f"The time allowed {parts}."


def overrun(budget: float | None, timings: Mapping[str, float]) -> str:
    """Return a sentence that says by how much the job took longer than its budget; empty where it did not.

    Args:
        budget: seconds that were asked for; None for no limit.
        timings: as of the report.
    """
    loading, compressing, total = (timings[name] for name in ("load_s", "train_s", "total_s"))
    if budget is None or total <= budget:
        return ""
    return (
        f"The budget of {budget:,.0f} s was too short: the job took {total:,.0f} s, {loading:,.0f} to load, "
        f"{compressing:,.0f} to compress, {total - loading - compressing:,.0f} to export and measure."
    )
