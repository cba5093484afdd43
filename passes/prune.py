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

# Of the time of pruning, what ADMM gets: masks of single weights go on searching after it, those of structures do not.
SHARE_OF_SINGLES = 0.5
SHARE_OF_STRUCTURES = 0.15


@dataclass(frozen=True)
class Prune(Pass):
    """Prunes to exact counts of kept weights.

    Attributes:
        budgets: groups of tensors with the number of weights that each keeps, and in which structure.
        schedule: how ADMM goes about.
        score: how weights are ranked over tensors, a key of ``SCORES``.
        start: ratio that the progressive targets begin at; None is near the target.
        admm_share: part of the allowance spent in ADMM, the rest trains the survivors; None for the usual.
        regrow_share: part of the allowance in which masks of single weights still move, at most what ADMM leaves; other
            structures do without.
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
    admm_share: float | None = None
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

        Masks that stay as they are share one cycle of the learning rate with what chose them, and have most of the time
        to train in: ResNet-20 in groups at 2x, 3 epochs, ends at 84.06 % after two cycles of equal length, at 84.70 %
        after one, 85.02 % with ADMM for 0.3 of it and 85.20 % for 0.15. Masks that go on searching move far only while
        the rate is high again, so that each phase then has a cycle of its own; one over all phases is no better:
        LeNet-5 at 246x and ResNet-20 at 10x end the same. After a schedule with restarts training begins anew.
        """
        singles = tuple(budget for budget in self.budgets if budget.structure == UNSTRUCTURED)
        usual = SHARE_OF_SINGLES if singles else SHARE_OF_STRUCTURES
        searching = usual if self.admm_share is None else self.admm_share
        regrowing = min(self.regrow_share, 1 - searching) if singles else 0.0
        anew = regrowing or self.schedule.restarts
        first, last = ((0.0, 1.0), (0.0, 1.0)) if anew else ((0.0, searching), (searching, 1.0))
        admm = Phase("prune", searching, partial(self._admm, span=first), self._project, is_final=not regrowing)
        regrow = Phase("regrow", regrowing, partial(self._regrow, budgets=singles))
        survive = partial(FinetuneStage, "train survivors", dense=self.dense, blend=self.blend, span=last)
        survivors = Phase("train survivors", max(0.0, 1 - searching - regrowing), survive)
        return (admm, regrow, survivors) if regrowing else (admm, survivors)

    def _admm(self, module: OnnxModule, span: tuple[float, float]) -> AdmmStage:
        weights = module.weights()
        sizes = {name: weights[name].numel() for name in self.names}
        return AdmmStage(
            "prune",
            module,
            self.names,
            lambda done: self._set(progressive(self.budgets, sizes, self.start, done)),
            self.schedule,
            span,
        )

    def _regrow(self, module: OnnxModule, budgets: tuple[Budget, ...]) -> FinetuneStage:
        return FinetuneStage("regrow", module, regrowth=Regrowth(budgets, self.score, costs=self.costs))

    def _project(self, trainer: Trainer) -> None:
        project_onto(trainer.module, self.names, self._set(self.budgets))
        trainer.settle()

    def _set(self, budgets: tuple[Budget, ...]) -> TopK:
        return TopK(budgets, self.score, self.layouts, self.costs, self.cuts)
