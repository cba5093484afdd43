"""Quantization: ADMM towards a grid on the survivors, then training inside the grid; or reconstruction without."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from passes.admm_training import AdmmStage
from passes.base import Pass
from passes.constraints import Levels, LevelTarget
from passes.phase import Phase
from passes.projection import project_onto
from passes.reconstruction import Reconstruction, Source, reconstruct
from passes.schedule import Schedule
from passes.snapshot import Snapshot
from passes.trainer import Trainer
from toolchain.module import OnnxModule

BATCH = 64  # calibration samples at a time, at most, where the model leaves that open
BATCH_BYTES = 2**23  # of their inputs: a batch is the least that is run, however long it takes
SECONDS = 90.0  # of going through samples, in all, where time is not short; what there is none for is not looked at
JUDGING_SHARE = 0.35  # of the time of rounding without training, about: judging one of the two ways


@dataclass(frozen=True)
class Quantize(Pass):
    """Moves weights onto grids of integer levels; masks of earlier passes stay.

    Attributes:
        targets: levels and scale axis by tensor name.
        schedule: how ADMM goes about; the set is at its target from the start.
        method: how weights are rounded where there is no time to train: a key of ``reconstruction.METHODS``.
        samples: how many training inputs that looks at.
        tell: hears in a sentence what came of it.
        cycle_end: where in a cycle of the learning rate its training ends, and what trains on goes on.
        seconds: of rounding where there is no time to train.
    """

    targets: Mapping[str, LevelTarget]
    schedule: Schedule
    method: str = "nearest"
    samples: int = 1024
    tell: Callable[[str], object] = str
    cycle_end: float = 1.0
    seconds: float = SECONDS

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
        return (Phase("quantize", 1.0, self._admm, self._at_once),)

    def _admm(self, module: OnnxModule) -> AdmmStage:
        return AdmmStage(
            "quantize", module, self.names, lambda _: self.constraint, self.schedule, (0.0, self.cycle_end)
        )

    def _at_once(self, trainer: Trainer) -> None:
        """Round to nearest and by the method, and keep what answers the selection data better.

        Where no output can be judged, as all are of integers, it is the method's.
        """
        module = trainer.module
        trainer.progress.phase("quantize")
        before = Snapshot.of(module)
        project_onto(module, self.names, self.constraint)
        trainer.settle()
        if self.method == "nearest":
            return
        nearest, score = Snapshot.of(module), trainer.glance()
        before.restore(module)
        found = self.round_as_asked(
            trainer, lambda done: trainer.progress.update(JUDGING_SHARE + (1 - 2 * JUDGING_SHARE) * done, {})
        )
        trainer.settle()
        if not trainer.objective.outputs or trainer.glance().better_than(score):
            self.tell(describe(found, self.method))
        else:
            nearest.restore(module)
            self.tell(f"Weights were rounded to nearest: by {self.method} they answered held-out data no better.")

    def round_as_asked(self, trainer: Trainer, tell: Callable[[float], object] = float) -> Reconstruction:
        """Put the weights on their grids by the method, whatever comes of it; ``tell`` hears which part is done."""
        count = min(self.samples, len(trainer.data))
        source = Source(lambda: _samples(trainer, count), count, self.seconds, tell)
        return reconstruct(trainer.module, self.targets, source, self.method)


def _samples(trainer: Trainer, count: int) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Yield ``count`` training inputs, some at a time, spread evenly over the data, which may be sorted by class.

    Any beginning of them is spread too, for who has no time for all.
    """
    rows = np.unique(np.linspace(0, len(trainer.data) - 1, count).round().astype(np.int64))
    rows = np.random.default_rng(0).permutation(rows)
    one = sum(array[:1].nbytes for array in trainer.data.batch(rows[: trainer.portion or 1]).inputs.values())
    size = trainer.portion or max(1, min(BATCH, BATCH_BYTES // max(1, one)))
    for start in range(0, len(rows), size):
        chosen = rows[start : start + size]
        if trainer.portion is None or len(chosen) == size:
            yield len(chosen), trainer.tensors(trainer.data.batch(chosen))[0]


def describe(found: Reconstruction, method: str) -> str:
    """Return what the report says of a reconstruction."""
    parts = []
    if found.errors:
        before, after = (sum(errors[index] for errors in found.errors.values()) for index in (0, 1))
        share = after / before if before else 1.0
        parts.append(
            f"Weights were rounded by {method} on {found.samples:,} samples: the error of the outputs of "
            f"{len(found.errors)} layers is {share:.0%} of what rounding to nearest leaves."
        )
    if found.others:
        shown = [f"{name} ({reason})" for name, reason in list(found.others.items())[:3]]
        rest = len(found.others) - len(shown)
        more = f" and {rest} more" if rest else ""
        parts.append(f"Rounded to nearest: {', '.join(shown)}{more}.")
    return " ".join(parts)
