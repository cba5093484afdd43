"""One phase of a pass: what it trains, for which part of the time, and what is done where there is no time."""

from collections.abc import Callable
from dataclasses import dataclass

from passes.allowance import Allowance
from passes.trainer import Trainer
from passes.training import Keep, LogEntry, Stage, nothing, train
from toolchain.checkpoint import State
from toolchain.module import OnnxModule


@dataclass(frozen=True)
class Phase:
    """One training of a pass.

    Attributes:
        name: as its stage has it.
        share: part of the pass's training time, 0..1.
        begin: makes the stage from the module as it is when the phase begins, or when it goes on.
        at_once: what is done instead where there is no time to train.
        is_final: whether the masks stay as they are afterwards.
    """

    name: str
    share: float
    begin: Callable[[OnnxModule], Stage]
    at_once: Callable[[Trainer], None] = nothing
    is_final: bool = True

    def run(
        self, trainer: Trainer, allowance: Allowance, saved: State | None = None, keep: Keep = nothing
    ) -> list[LogEntry]:
        """Train for the allowance, or go on from a saved state, and return the log."""
        if allowance.is_empty:
            self.at_once(trainer)
            return []
        return train(trainer, self.begin(trainer.module), allowance, saved, keep)
