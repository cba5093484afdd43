"""How long a phase of training may take."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Allowance:
    """How long a phase may train: the first limit that is reached ends it.

    Attributes:
        steps: optimizer steps; None for no limit.
        seconds: wall-clock time; None for no limit.
        weight: expected part of the whole job's time, 0..1, for the time left.
    """

    steps: int | None = None
    seconds: float | None = None
    weight: float | None = None

    def done(self, step: int, elapsed: float) -> float:
        """Return the progress in 0..1."""
        limits = ((step, self.steps), (elapsed, self.seconds))
        return max((min(1.0, used / limit) if limit > 0 else 1.0) for used, limit in limits if limit is not None)

    @property
    def is_empty(self) -> bool:
        """Whether there is no training at all."""
        return self.steps == 0 or (self.seconds is not None and self.seconds <= 0)

    def share(self, fraction: float) -> "Allowance":
        """Return that fraction of this allowance."""
        steps = None if self.steps is None else math.ceil(self.steps * fraction)
        seconds = None if self.seconds is None else self.seconds * fraction
        return Allowance(steps, seconds, None if self.weight is None else self.weight * fraction)
