"""Chooses the score that ranks weights over tensors, by a short trial of each on the user's own model and data."""

from collections.abc import Mapping

from passes.allowance import Allowance
from passes.base import Pass
from passes.snapshot import Snapshot
from passes.trainer import Trainer

LEAST_STEPS = 200  # of a trial that says anything
CLEARLY = 0.9  # of another's loss


def try_scores(trainer: Trainer, passes: Mapping[str, Pass], allowance: Allowance) -> dict[str, float]:
    """Return the loss on the selection data that each score leads to; the module is left as it was.

    Nothing is returned where the first trial shows that there is no time for enough steps.

    A trial is the whole pass, only shorter: what a score keeps is judged by how well it trains on the way to the
    target. Projecting at once does not tell: for LeNet-5 at 35x it puts LAMP before the curvature, and magnitude close.

    Args:
        trainer: the models, the data, the judgement.
        passes: the pass by the name of its score.
        allowance: of all trials together.
    """
    start = Snapshot.of(trainer.module)
    losses = {}
    for score, attempt in passes.items():
        log = attempt.run(trainer, allowance.share(1 / len(passes))).log
        losses[score] = trainer.evaluate().loss
        start.restore(trainer.module)
        last = {str(entry["phase"]): int(entry["step"]) for entry in log}
        if sum(last.values()) < LEAST_STEPS:
            return {}
    return losses


def choose_score(losses: Mapping[str, float], usual: str) -> str:
    """Return the score of least loss, or the usual one where none is clearly better or nothing was tried."""
    if not losses:
        return usual
    best = min(losses, key=lambda score: losses[score])
    return best if losses[best] < CLEARLY * losses[usual] else usual
