"""Pruning: ADMM towards a tightening cardinality constraint, masks that go on searching, training of the survivors."""

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
from passes.regrowth import Regrowth
from passes.schedule import Schedule
from passes.trainer import Trainer
from toolchain.graph.layout import Layout
from toolchain.module import OnnxModule
from toolchain.structures import UNSTRUCTURED


@dataclass(frozen=True)
class Prune(Pass):
    """Prunes to exact counts of kept weights.

    Attributes:
        budgets: groups of tensors with the number of weights that each keeps, and in which structure.
        schedule: how ADMM goes about.
        score: how weights are ranked over tensors, a key of ``SCORES``.
        start: ratio that the progressive targets begin at; None is near the target.
        admm_share: part of the allowance spent in ADMM, the rest trains the survivors.
        regrow_share: part of the allowance in which masks of single weights still move; other structures do without.
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
    admm_share: float = 0.5
    regrow_share: float = 0.3
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
        """Return ADMM, after which the formats have masks with exactly the asked counts, and training inside those.

        The learning rate goes through one cycle over all of them: ADMM moves far while the rate is high, and it falls
        while the survivors settle. A schedule with restarts of its own leaves a cycle to the phases behind it.
        """
        singles = tuple(budget for budget in self.budgets if budget.structure == UNSTRUCTURED)
        regrowing = self.regrow_share if singles else 0.0
        searching = min(self.admm_share, 1 - regrowing)
        surviving = max(0.0, 1 - searching - regrowing)
        before = 0.0 if self.schedule.restarts else searching
        whole = before + regrowing + surviving or 1.0
        masked, settled = before / whole, (before + regrowing) / whole
        admm = Phase("prune", searching, partial(self._admm, end=masked or 1.0), self._project, is_final=not regrowing)
        regrow = Phase("regrow", regrowing, partial(self._regrow, budgets=singles, cycle=(masked, settled)))
        survivors = Phase("train survivors", surviving, partial(self._survive, cycle=(settled, 1.0)))
        return (admm, regrow, survivors) if regrowing else (admm, survivors)

    def _admm(self, module: OnnxModule, end: float) -> AdmmStage:
        weights = module.weights()
        sizes = {name: weights[name].numel() for name in self.names}
        return AdmmStage(
            "prune",
            module,
            self.names,
            lambda done: self._set(progressive(self.budgets, sizes, self.start, done), self.score),
            self.schedule,
            (0.0, end),
        )

    def _regrow(self, module: OnnxModule, budgets: tuple[Budget, ...], cycle: tuple[float, float]) -> FinetuneStage:
        return FinetuneStage("regrow", module, regrowth=Regrowth(budgets, self.score), cycle=cycle)

    def _survive(self, module: OnnxModule, cycle: tuple[float, float]) -> FinetuneStage:
        return FinetuneStage("train survivors", module, dense=self.dense, blend=self.blend, cycle=cycle)

    def _project(self, trainer: Trainer) -> None:
        project_onto(trainer.module, self.names, self._set(self.budgets, self.score))
        trainer.settle()

    def _set(self, budgets: tuple[Budget, ...], score: str) -> TopK:
        return TopK(budgets, score, self.layouts, self.costs, self.cuts)
