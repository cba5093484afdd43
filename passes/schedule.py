"""How ADMM goes about: when it updates, how hard it pulls, how the set tightens. The papers' ways are values of it."""

import math
from dataclasses import dataclass
from typing import Literal

Ramp = Literal["constant", "growing", "cosine", "balanced"]
Path = Literal["fixed", "stages", "gradual"]

GROWTH = 1.3  # of the penalty per update: arXiv 1903.09769, section 3
START_OF_BALANCED = 0.1  # of the strongest pull, where residuals then say how to go on
SNAP_FROM = 0.8  # of a phase, from which weights are fixed to their levels: first ADMM brings them near
LEAST_RATE = 0.02  # of the peak, at which a cycle of the learning rate ends


@dataclass(frozen=True)
class Schedule:
    """One way to run the ADMM loop.

    Attributes:
        rho: part of the way to the projection, 0..1, that each optimizer step moves the weights at the end of the ramp.
            It is relative to the weights, so that it needs no tuning to a model's scale.
        ramp: of the pull: ``"constant"``; ``"growing"`` by 1.3 at each update; ``"cosine"`` from 0 (SAFE, ICML 2025);
            ``"balanced"`` doubles or halves it where one residual is ten times the other (Boyd et al. 2011, section
            3.4.1).
        update_every: optimizer steps between updates of Z and U; None where ``updates`` says how many there are.
        updates: how many updates of Z and U the phase has, in equal parts.
        path: how the set tightens: ``"fixed"`` is at its target from the start; ``"stages"`` tightens at few moments,
            and what is pruned at the end of a stage stays pruned (masked ADMM, arXiv 1903.09769, section 3);
            ``"gradual"`` tightens at every update.
        stages: of the path of that name.
        settled: part of the phase after which a gradual path is at its target.
        restarts: whether the learning rate restarts at each update, else it is one cycle over the phase.
        damping: factor of the dual at each update; 1 is the plain method.
        reweighted: whether the projection shrinks what it keeps, small weights more than large ones (``reweighting``).
        sharpness: radius of the sharpness-aware gradient (Foret et al. 2021), taken at the weights moved so far uphill;
            0 is the plain gradient. It doubles the cost of a step.
        snaps: moments in the last fifth of the phase at which more weights are fixed to their levels, those nearest to
            one first (``snapping``); 0 fixes none before the end.
    """

    rho: float = 0.05
    ramp: Ramp = "cosine"
    update_every: int | None = 32
    updates: int = 30
    path: Path = "gradual"
    stages: int = 3
    settled: float = 0.8
    restarts: bool = False
    damping: float = 1.0
    reweighted: bool = False
    sharpness: float = 0.0
    snaps: int = 0

    def pull(self, done: float, present: float) -> float:
        """Return the pull at progress ``done``; ``present`` is that of a balanced one."""
        if self.ramp == "cosine":
            return self.rho * 0.5 * (1 - math.cos(math.pi * done))
        if self.ramp == "growing":
            return self.rho * GROWTH ** (math.floor(done * self.updates) + 1 - self.updates)
        return present if self.ramp == "balanced" else self.rho

    @property
    def first_pull(self) -> float:
        """The pull that a balanced ramp begins with."""
        return START_OF_BALANCED * self.rho

    def balance(self, pull: float, primal: float, dual: float) -> float:
        """Return the pull after an update with these residuals, at most ``rho``."""
        if primal > 10 * dual:
            return min(self.rho, 2 * pull)
        return pull / 2 if dual > 10 * primal else pull

    def is_update(self, step: int, before: float, done: float) -> bool:
        """Return whether Z and U are updated after a step.

        Args:
            step: its number, from 0.
            before: progress at the step before it.
            done: progress at this step.
        """
        if self.update_every is not None:
            return step % self.update_every == 0
        return step == 0 or math.floor(done * self.updates) > math.floor(before * self.updates)

    def stage(self, done: float) -> int:
        """Return the stage at progress ``done``, from 0; a path without stages is a single one."""
        return min(math.floor(done * self.stages), self.stages - 1) if self.path == "stages" else 0

    def tightening(self, done: float) -> float:
        """Return how far the set is tightened, in 0..1, at progress ``done``."""
        if self.path == "stages":
            return (self.stage(done) + 1) / self.stages
        return min(1.0, done / self.settled) if self.path == "gradual" else 1.0

    def snapped(self, done: float) -> float:
        """Return which part of the weights is fixed to its levels at progress ``done``: equal parts more, all at 1."""
        if not self.snaps or done < SNAP_FROM:
            return 0.0
        moment = 1 + math.floor((done - SNAP_FROM) / (1 - SNAP_FROM) * self.snaps)
        return min(moment, self.snaps + 1) / (self.snaps + 1)

    def learning_rate(self, done: float) -> float | None:
        """Return the learning rate as a share of its peak where it restarts at each update; None where it does not."""
        if not self.restarts:
            return None
        return falling_rate(done * self.updates % 1.0)


def falling_rate(done: float) -> float:
    """Return the learning rate at progress ``done`` of its fall as a share of its peak: a cosine."""
    return LEAST_RATE + (1 - LEAST_RATE) * 0.5 * (1 + math.cos(math.pi * done))


# One-shot: arXiv 1804.03294, with a fixed set and penalty. Progressive: arXiv 1903.09769. Reweighted: the idea of
# Neural Networks 179 (2024) 106534; its equations were not at hand, so this is a reconstruction. Frequent: the
# updates and the penalty of SAFE (ICML 2025), with gradually tightening sets; sharp is that with SAFE's gradient too.
SCHEDULES = {
    "one-shot": Schedule(rho=0.005, ramp="constant", update_every=None, path="fixed", restarts=True),
    "progressive": Schedule(ramp="growing", update_every=None, path="stages", restarts=True),
    "reweighted": Schedule(update_every=None, updates=60, reweighted=True),
    "frequent": Schedule(),
    "sharp": Schedule(sharpness=0.1),
}
