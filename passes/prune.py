"""Pruning: ADMM towards a tightening cardinality constraint, then training of the survivors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor

from passes.admm_training import AdmmStage
from passes.base import Pass
from passes.constraints import Budget, Cut, TopK, progressive
from passes.finetune import FinetuneStage
from passes.phase import Phase
from passes.projection import project_onto
from passes.schedule import Schedule
from passes.trainer import Trainer
from toolchain.graph.layout import Layout
from toolchain.module import OnnxModule


@dataclass(frozen=True)
class Prune(Pass):
    """Prunes to exact counts of kept weights.

    Attributes:
        budgets: groups of tensors with the number of weights that each keeps, and in which structure.
        schedule: how ADMM goes about.
        score: how weights are ranked over tensors, a key of ``SCORES``.
        start: ratio that the progressive targets begin at; None is near the target.
        admm_share: part of the allowance spent in ADMM, the rest trains the survivors.
        layouts: by tensor name, for structures.
        dense: weights before compression, by tensor name, which training of the survivors may begin with.
        blend: part of that training over which they fade; 0 does without.
        costs: of keeping one weight, by tensor name, by which scores are divided; 1 where there is none.
        cuts: channels, by tensor name, where these are pruned.
    """

    budgets: tuple[Budget, ...]
    schedule: Schedule
    score: str = "curvature"
    start: float | None = None
    admm_share: float = 0.6
    layouts: Mapping[str, Layout] = field(default_factory=dict)
    dense: Mapping[str, Tensor] = field(default_factory=dict)
    blend: float = 0.0
    costs: Mapping[str, float] = field(default_factory=dict)
    cuts: Mapping[str, tuple[Cut, ...]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors that are pruned."""
        return tuple(name for budget in self.budgets for name in budget.names)

    def phases(self) -> tuple[Phase, ...]:
        """Return ADMM, after which the formats have masks with exactly the asked counts, and training inside those."""
        finetune = partial(FinetuneStage, "train survivors", dense=self.dense, blend=self.blend)
        return (
            Phase("prune", self.admm_share, self._admm, self._project),
            Phase("train survivors", 1 - self.admm_share, finetune),
        )

    def _admm(self, module: OnnxModule) -> AdmmStage:
        weights = module.weights()
        sizes = {name: weights[name].numel() for name in self.names}
        return AdmmStage(
            "prune",
            module,
            self.names,
            lambda done: self._set(progressive(self.budgets, sizes, self.start, done), self.score),
            self.schedule,
        )

    def _project(self, trainer: Trainer) -> None:
        project_onto(trainer.module, self.names, self._set(self.budgets, self.score))
        trainer.settle()

    def _set(self, budgets: tuple[Budget, ...], score: str) -> TopK:
        return TopK(budgets, score, self.layouts, self.costs, self.cuts)
