"""Pruning: ADMM towards a tightening cardinality constraint, then training of the survivors."""

from dataclasses import dataclass

from passes.admm_training import AdmmStage, Penalty
from passes.allowance import Allowance
from passes.base import Pass, PassResult
from passes.constraints import Budget, TopK, progressive
from passes.finetune import FinetuneStage
from passes.projection import project_onto
from passes.trainer import Trainer
from passes.training import train


@dataclass(frozen=True)
class Prune(Pass):
    """Prunes to exact counts of kept weights.

    Attributes:
        budgets: groups of tensors with the number of weights that each keeps.
        penalty: ADMM's schedule.
        score: how weights are ranked over tensors, a key of ``SCORES``.
        start: ratio that the progressive targets begin at.
        admm_share: part of the allowance spent in ADMM, the rest trains the survivors.
    """

    budgets: tuple[Budget, ...]
    penalty: Penalty
    score: str = "curvature"
    start: float = 5.0
    admm_share: float = 0.6

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors that are pruned."""
        return tuple(name for budget in self.budgets for name in budget.names)

    def run(self, trainer: Trainer, allowance: Allowance) -> PassResult:
        """Prune ``trainer.module`` in place; its formats get masks with exactly the asked counts."""
        if allowance.is_empty:
            project_onto(trainer.module, self.names, TopK(self.budgets, "lamp"))
            trainer.settle()
            return PassResult(self.names)
        weights = trainer.module.weights()
        sizes = {name: weights[name].numel() for name in self.names}
        stage = AdmmStage(
            "prune",
            trainer.module,
            self.names,
            lambda done: TopK(progressive(self.budgets, sizes, self.start, done), self.score),
            self.penalty,
        )
        log = train(trainer, stage, allowance.share(self.admm_share))
        log += train(trainer, FinetuneStage("train survivors", trainer.module), allowance.share(1 - self.admm_share))
        return PassResult(self.names, log=tuple(log))
