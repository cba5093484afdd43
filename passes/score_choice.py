"""Chooses the score that ranks weights over tensors, by a short trial of each on the user's own model and data."""

import math
from collections.abc import Mapping
from dataclasses import replace

from passes.allowance import Allowance
from passes.base import Pass
from passes.snapshot import Snapshot
from passes.trainer import Trainer
from toolchain.errors import TrainingError
from toolchain.progress import NullProgress

LEAST_STEPS = 200  # of a trial that says anything
CLEARLY = 0.9  # of the loss of the usual one
USUAL = "curvature"


def try_scores(trainer: Trainer, passes: Mapping[str, Pass], allowance: Allowance) -> dict[str, float]:
    """Return the loss on the selection data that each score leads to; the module is left as it was.

    Nothing is returned where the first trial shows that there is no time for enough steps.

    A trial is the whole pass, only shorter: what a score keeps is judged by how well it trains on the way to the
    target. One that comes to NaN or infinity ends at an infinite loss.

    Args:
        trainer: the models, the data, the judgement.
        passes: the pass by the name of its score.
        allowance: of all trials together.
    """
    start = Snapshot.of(trainer.module)
    quiet = replace(trainer, progress=NullProgress())  # of the phases of each trial
    trainer.progress.phase("choose a score", allowance.weight)
    losses = {}
    for number, (score, attempt) in enumerate(passes.items(), 1):
        try:
            log = attempt.run(quiet, allowance.share(1 / len(passes))).log
        except TrainingError:
            losses[score] = math.inf
        else:
            last = {str(entry["phase"]): int(entry["step"]) for entry in log}
            if sum(last.values()) < LEAST_STEPS:
                start.restore(trainer.module)
                return {}
            losses[score] = trainer.evaluate().loss
        start.restore(trainer.module)
        trainer.progress.update(number / len(passes), {"score": score, "loss": losses[score]})
    return losses


def choose_score(losses: Mapping[str, float]) -> str:
    """Return the score of least loss, or the usual one where none is clearly better or nothing was tried."""
    if not losses:
        return USUAL
    best = min(losses, key=lambda score: losses[score])
    return best if losses[best] < CLEARLY * losses[USUAL] else USUAL


def describe_trials(losses: Mapping[str, float]) -> str:
    """Return a sentence for the report on what the trials showed; empty where nothing was tried."""
    if not losses:
        return ""
    listed = ", ".join(f"{score} {loss:.3g}" for score, loss in losses.items())
    return f"Weights were ranked by {choose_score(losses)}: short trials of every score ended at losses of {listed}."
