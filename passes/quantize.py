"""Quantization: ADMM towards a grid on the survivors, then training inside the grid."""

from collections.abc import Mapping
from dataclasses import dataclass

from passes.admm_training import AdmmStage, Penalty
from passes.allowance import Allowance
from passes.base import Pass, PassResult
from passes.constraints import Levels, LevelTarget
from passes.projection import project_onto
from passes.trainer import Trainer
from passes.training import train


@dataclass(frozen=True)
class Quantize(Pass):
    """Moves weights onto grids of integer levels; masks of earlier passes stay.

    Attributes:
        targets: levels and scale axis by tensor name.
        penalty: ADMM's schedule; nothing tightens, so ``settled`` is 0.
    """

    targets: Mapping[str, LevelTarget]
    penalty: Penalty

    @property
    def constraint(self) -> Levels:
        """The set that the weights must lie in."""
        return Levels(self.targets)

    def run(self, trainer: Trainer, allowance: Allowance) -> PassResult:
        """Quantize ``trainer.module`` in place; its formats get grids."""
        names = tuple(self.targets)
        if allowance.is_empty:
            project_onto(trainer.module, names, self.constraint)
            trainer.settle()
            return PassResult(names)
        stage = AdmmStage("quantize", trainer.module, names, lambda _: self.constraint, self.penalty)
        return PassResult(names, log=tuple(train(trainer, stage, allowance)))
