"""Chooses the score that ranks weights over tensors, by a short trial of each on the user's own model and data."""

from collections.abc import Mapping

from passes.allowance import Allowance
from passes.base import Pass
from passes.snapshot import Snapshot
from passes.trainer import Trainer


def try_scores(trainer: Trainer, passes: Mapping[str, Pass], allowance: Allowance) -> dict[str, float]:
    """Return the loss on the selection data that each score leads to; the module is left as it was.

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
        attempt.run(trainer, allowance.share(1 / len(passes)))
        losses[score] = trainer.evaluate().loss
        start.restore(trainer.module)
    return losses
