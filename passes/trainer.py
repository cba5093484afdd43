"""What the training passes of a run share: the models, the data, the judgement of a state."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from calibration.data import Batch, Dataset
from passes.batches import Batches
from passes.normalization import normalizations, reestimate_normalization
from passes.objective import Objective, correct
from passes.snapshot import Snapshot
from passes.targets import Targets, tabulate
from toolchain.augmentation import Augmentation
from toolchain.checkpoint import State
from toolchain.module import OnnxModule
from toolchain.progress import Progress

TARGET_BYTES = 256 * 2**20  # of the teacher's outputs on the selection data that are kept
NORMALIZATION_BATCHES = 40  # batches that BatchNormalization statistics are re-estimated from
COMPARED_BATCHES = 16  # of the selection data, which show which of two states is better


@dataclass(frozen=True)
class Score:
    """How good a model is on the selection data: accuracy as a fraction (None without labels), and loss."""

    accuracy: float | None
    loss: float

    def better_than(self, other: "Score") -> bool:
        """Compare by loss: the best accuracy of many evaluations on few thousand samples is mostly luck."""
        return self.loss < other.loss


class HeldOut(NamedTuple):
    """A batch of the selection data as models take it, and the original's answers to it."""

    samples: int
    inputs: dict[str, Tensor]
    labels: Tensor | None
    targets: dict[str, Tensor]


@dataclass
class Best:
    """The best state of the module that a phase has seen, and its score."""

    score: Score
    snapshot: Snapshot

    @classmethod
    def of(cls, module: OnnxModule, score: Score) -> "Best":
        """Return a copy of the module's state."""
        return cls(score, Snapshot.of(module))

    def restore(self, module: OnnxModule) -> None:
        """Put the state back into the module."""
        self.snapshot.restore(module)

    def state(self) -> State:
        """Return everything as a checkpoint holds it."""
        return {"accuracy": self.score.accuracy, "loss": self.score.loss, "snapshot": self.snapshot.state()}

    @classmethod
    def from_state(cls, state: State, device: torch.device) -> "Best":
        """Return what ``state`` was made of, on ``device``."""
        return cls(Score(state["accuracy"], state["loss"]), Snapshot.from_state(state["snapshot"], device))


@dataclass
class Trainer:
    """What the training passes of one run share.

    Attributes:
        module: the model that is compressed, changed in place.
        teacher: the original model.
        data: what it trains on.
        selection: held out from training; picks the best iterate.
        objective: the loss.
        batch_size: samples per step.
        learning_rate: of Adam, at its peak.
        precision: in which training multiplies; weights, their updates and every evaluation are float32 whatever it is.
        augmentation: how training images are varied; the teacher sees the same ones.
        moves_normalization: whether BatchNormalization trains by batch statistics and is re-estimated; not on synthetic
            inputs, whose statistics are only close to those of the real data that the model's own were taken from.
        rng: draws the order of the batches.
        progress: is told what happens.
        known: the teacher's answers to the training data; None asks it for every batch.
    """

    module: OnnxModule
    teacher: OnnxModule
    data: Dataset
    selection: Dataset
    objective: Objective
    batch_size: int
    learning_rate: float
    precision: torch.dtype
    augmentation: Augmentation
    moves_normalization: bool
    rng: np.random.Generator
    progress: Progress
    known: Targets | None = None
    _targets: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    _target_bytes: int = 0

    @property
    def portion(self) -> int | None:
        """How many samples the model insists on at a time; a batch is then made of several portions."""
        return self.module.graph.batch_size

    def batches(self) -> Batches:
        """Return training batches for ever, every sample at most once per epoch."""
        return Batches(self.data, self.batch_samples, self.augmentation, self.rng)

    @property
    def batch_samples(self) -> int:
        """How many samples a training batch holds: whole portions, no more than there are."""
        portion = self.portion or 1
        return max(portion, min(self.batch_size, len(self.data)) // portion * portion)

    @property
    def steps_per_epoch(self) -> int:
        """How many batches make an epoch."""
        return max(1, len(self.data) // self.batch_samples)

    def tensors(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return what the model is fed of the batch, and its labels, on the module's device."""
        device = self.module.device
        inputs = {name: torch.from_numpy(array).to(device) for name, array in batch.feeds.items()}
        labels = None if batch.labels is None else torch.from_numpy(batch.labels).to(device, torch.int64)
        return inputs, labels

    def outputs(self, model: OnnxModule, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what a model computes of a training batch, in the precision of training; floats as float32."""
        half = self.precision is not torch.float32
        with torch.autocast(self.module.device.type, self.precision if half else None, enabled=half):
            outputs: dict[str, Tensor] = model(inputs)
        return {name: value.float() if value.dtype is self.precision else value for name, value in outputs.items()}

    def remember(self, epochs: float | None, seconds: float | None) -> None:
        """Ask the teacher once for its answers to all training data, where that clearly saves time.

        An epoch's answers cost about a quarter of its training. So twice as many epochs as images have variants are
        sped up by at least an eighth; of a time, an eighth is the most that this may take.

        Args:
            epochs: of all training, which alone decide where there is no time; None where only the time is known.
            seconds: of all training; None for no limit.
        """
        enough = epochs is None or epochs >= 2 * self.augmentation.variants
        if enough and self.portion is None and not self.data.sets:
            self.progress.phase("ask the original", 0.0)
            limit = None if seconds is None else seconds / 8
            device = self.module.device
            # A run that goes on asks again: a teacher with random operators must not move the generator on.
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                self.known = tabulate(
                    self._answers, self.data, self.augmentation, limit, lambda done: self.progress.update(done, {})
                )

    def _answers(self, batch: Batch) -> dict[str, Tensor]:
        return self._ask(self.tensors(batch)[0])

    def _ask(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        answers = self.outputs(self.teacher, inputs)
        return {name: answers[name] for name in self.objective.outputs}

    @torch.no_grad()
    def targets(self, batch: Batch, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the teacher's outputs that the objective reads, of a training batch; from memory where they are."""
        known = None if self.known is None else self.known.of(batch)
        return self._ask(inputs) if known is None else known

    def example(self) -> dict[str, np.ndarray]:
        """Return what the module is fed of the first samples, the same at every call."""
        return dict(self.data.batch(np.arange(min(len(self.data), self.portion or 2))).feeds)

    @torch.no_grad()
    def evaluate(self, every: int = 1) -> Score:
        """Return the score of the module as it is, on every ``every``-th batch of the selection data."""
        self.module.eval()
        loss, hits = 0.0, 0
        count = 0
        for batch in self.held_out(every):
            count += batch.samples
            outputs = self.module(batch.inputs)
            loss += float(self.objective.loss(outputs, batch.targets, batch.labels)) * batch.samples
            if batch.labels is not None and self.objective.classes:
                hits += correct(outputs[self.objective.classes], batch.labels)
        labelled = self.selection.labels is not None and self.objective.classes is not None
        return Score(hits / count if labelled else None, loss / count)

    @torch.no_grad()
    def held_out(self, every: int = 1) -> Iterator[HeldOut]:
        """Yield every ``every``-th batch of the selection data."""
        batches = self.selection.batches(self.portion or self.batch_size)
        for number, batch in islice(enumerate(batches), 0, None, every):
            if self.portion is not None and len(batch) < self.portion:
                break  # a rest that the model does not accept
            inputs, labels = self.tensors(batch)
            yield HeldOut(len(batch), inputs, labels, self._target(number, inputs))

    def with_few(self, most: int) -> "Trainer":
        """Return the trainer with few samples held out, spread evenly, and with no answers to them yet."""
        count = len(self.selection)
        rows = np.unique(np.linspace(0, count - 1, min(count, max(most, self.portion or 1))).round().astype(np.int64))
        return replace(self, selection=self.selection.subset(rows), _targets={}, _target_bytes=0)

    def _target(self, number: int, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the teacher's outputs on a selection batch, from memory where they fit there."""
        found = self._targets.get(number)
        if found is None:
            found = self.teacher(inputs)
            size = sum(value.numel() * value.element_size() for value in found.values())
            if self._target_bytes + size <= TARGET_BYTES:
                self._targets[number] = found
                self._target_bytes += size
        return found

    @property
    def judging_steps(self) -> float:
        """How many training steps ``settle`` and ``evaluate`` take as long as, about.

        A step costs its samples four times (forward, backward twice that, teacher), an evaluation its own once.
        """
        evaluation = len(self.selection) / (4 * self.batch_samples)
        if not self._settles:
            return evaluation
        return (1 + 2 / self._compared_every) * evaluation + self._moment_batches / 4

    @property
    def _settles(self) -> bool:
        return self.moves_normalization and bool(normalizations(self.module))

    @property
    def _moment_batches(self) -> int:
        return min(NORMALIZATION_BATCHES, self.steps_per_epoch)

    @property
    def _compared_every(self) -> int:
        """Which batches of the selection data compare; they may be sorted by class, so it is some of all parts."""
        return max(1, len(self.selection) // (self.portion or self.batch_size) // COMPARED_BATCHES)

    def glance(self) -> Score:
        """Return the score on a part of the selection data, always the same: enough to choose between two states."""
        return self.evaluate(self._compared_every)

    @torch.no_grad()
    def settle(self) -> None:
        """Re-estimate BatchNormalization's statistics for the weights as they are, if that helps."""
        if not self._settles:
            return
        statistics = [self.module.tensor(name) for node in normalizations(self.module) for name in node.inputs[3:5]]
        before, score = [value.clone() for value in statistics], self.glance()
        batches = islice(self.batches(), self._moment_batches)
        reestimate_normalization(self.module, (self.tensors(batch)[0] for batch in batches))
        if not self.glance().better_than(score):
            for value, saved in zip(statistics, before, strict=True):
                value.copy_(saved)
