"""Quantization: ADMM towards a grid on the survivors, then training inside the grid."""

from collections.abc import Mapping
from dataclasses import dataclass

from passes.admm_training import AdmmStage
from passes.base import Pass
from passes.constraints import Levels, LevelTarget
from passes.phase import Phase
from passes.projection import project_onto
from passes.schedule import Schedule
from passes.trainer import Trainer
from toolchain.module import OnnxModule


@dataclass(frozen=True)
class Quantize(Pass):
    """Moves weights onto grids of integer levels; masks of earlier passes stay.

    Attributes:
        targets: levels and scale axis by tensor name.
        schedule: how ADMM goes about; the set is at its target from the start.
    """

    targets: Mapping[str, LevelTarget]
    schedule: Schedule

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors that are quantized."""
        return tuple(self.targets)

    @property
    def constraint(self) -> Levels:
        """The set that the weights must lie in."""
        return Levels(self.targets)

    def phases(self) -> tuple[Phase, ...]:
        """Return ADMM, after which the formats have grids."""
        return (Phase("quantize", 1.0, self._admm, self._project),)

    def _admm(self, module: OnnxModule) -> AdmmStage:
        return AdmmStage("quantize", module, self.names, lambda _: self.constraint, self.schedule)

    def _project(self, trainer: Trainer) -> None:
        project_onto(trainer.module, self.names, self.constraint)
        trainer.settle()
