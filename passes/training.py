"""The training loop that every pass shares: batches, learning rate, evaluation, the best state, progress."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from calibration.data import Batch, Dataset
from passes.augment import shift_images
from passes.normalization import normalizations, reestimate_normalization
from passes.objective import Objective, correct
from toolchain.errors import TrainingError
from toolchain.formats import TensorFormat
from toolchain.module import OnnxModule
from toolchain.progress import Progress

EVALUATIONS = 12  # interim evaluations per phase, at most
EVALUATION_SHARE = 0.2  # of the training between two evaluations that an evaluation may cost
TARGET_BYTES = 256 * 2**20  # of the teacher's outputs on the selection data that are kept
NORMALIZATION_BATCHES = 40  # batches that BatchNormalization statistics are re-estimated from
WARM_UP = 0.1  # of a phase, in which the learning rate rises

LogEntry = dict[str, float | int | str]


@dataclass(frozen=True)
class Allowance:
    """How long a phase may train: the first limit that is reached ends it.

    Attributes:
        steps: optimizer steps; None for no limit.
        seconds: wall-clock time; None for no limit.
        weight: expected part of the whole job's time, 0..1, for the time left.
    """

    steps: int | None = None
    seconds: float | None = None
    weight: float | None = None

    def done(self, step: int, elapsed: float) -> float:
        """Return the progress in 0..1."""
        limits = ((step, self.steps), (elapsed, self.seconds))
        return max((min(1.0, used / limit) if limit > 0 else 1.0) for used, limit in limits if limit is not None)

    @property
    def is_empty(self) -> bool:
        """Whether there is no training at all."""
        return self.steps == 0 or (self.seconds is not None and self.seconds <= 0)

    def share(self, fraction: float) -> "Allowance":
        """Return that fraction of this allowance."""
        steps = None if self.steps is None else math.ceil(self.steps * fraction)
        seconds = None if self.seconds is None else self.seconds * fraction
        return Allowance(steps, seconds, None if self.weight is None else self.weight * fraction)


@dataclass(frozen=True)
class Score:
    """How good a model is on the selection data: accuracy as a fraction (None without labels), and loss."""

    accuracy: float | None
    loss: float

    def better_than(self, other: "Score") -> bool:
        """Compare by accuracy where there is one, and ties by loss."""
        return (self.accuracy or 0.0, -self.loss) > (other.accuracy or 0.0, -other.loss)


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
        augment: whether image batches are shifted by up to one pixel; the teacher sees the same batch.
        moves_normalization: whether BatchNormalization trains by batch statistics and is re-estimated; not on synthetic
            inputs, whose statistics are only close to those of the real data that the model's own were taken from.
        rng: draws the order of the batches.
        progress: is told what happens.
    """

    module: OnnxModule
    teacher: OnnxModule
    data: Dataset
    selection: Dataset
    objective: Objective
    batch_size: int
    learning_rate: float
    augment: bool
    moves_normalization: bool
    rng: np.random.Generator
    progress: Progress
    _targets: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    _target_bytes: int = 0

    @property
    def portion(self) -> int | None:
        """How many samples the model insists on at a time; a batch is then made of several portions."""
        return self.module.graph.batch_size

    def batches(self) -> Iterator[Batch]:
        """Yield training batches for ever, every sample at most once per epoch."""
        portion = self.portion or 1
        size = max(portion, min(self.batch_size, len(self.data)) // portion * portion)
        while True:
            order = self.rng.permutation(len(self.data))
            for start in range(0, len(order) - size + 1, size):
                batch = self.data.batch(order[start : start + size])
                yield shift_images(batch, self.rng) if self.augment else batch

    @property
    def steps_per_epoch(self) -> int:
        """How many batches make an epoch."""
        return max(1, len(self.data) // self.batch_size)

    def tensors(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return the batch on the module's device."""
        device = self.module.device
        inputs = {name: torch.from_numpy(array).to(device) for name, array in batch.inputs.items()}
        labels = None if batch.labels is None else torch.from_numpy(batch.labels).to(device, torch.int64)
        return inputs, labels

    @torch.no_grad()
    def evaluate(self) -> Score:
        """Return the score on the selection data of the module as it is."""
        self.module.eval()
        loss, hits = 0.0, 0
        count = 0
        for number, batch in enumerate(self.selection.batches(self.portion or self.batch_size)):
            if self.portion is not None and len(batch) < self.portion:
                break  # a rest that the model does not accept
            count += len(batch)
            inputs, labels = self.tensors(batch)
            outputs, targets = self.module(inputs), self._target(number, inputs)
            loss += float(self.objective.loss(outputs, targets, labels)) * len(batch)
            if labels is not None and self.objective.classes:
                hits += correct(outputs[self.objective.classes], labels)
        labelled = self.selection.labels is not None and self.objective.classes is not None
        return Score(hits / count if labelled else None, loss / count)

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

    def settle(self) -> Score:
        """Re-estimate BatchNormalization's statistics for the weights as they are, if that helps; return the score."""
        score = self.evaluate()
        if not normalizations(self.module) or not self.moves_normalization:
            return score
        before = Best.of(self.module, score)
        count = min(NORMALIZATION_BATCHES, self.steps_per_epoch)
        reestimate_normalization(self.module, (self.tensors(batch)[0] for batch in islice(self.batches(), count)))
        after = self.evaluate()
        if after.better_than(score):
            return after
        before.restore(self.module)
        return score


class Stage(ABC):
    """What one kind of training adds to the loop."""

    name: str

    @abstractmethod
    def parameters(self) -> list[Tensor]:
        """Return the tensors that the optimizer changes."""

    @abstractmethod
    def after_backward(self) -> None:
        """Adjust gradients before the optimizer's step."""

    @abstractmethod
    def after_step(self, step: int, done: float, optimizer: torch.optim.Adam) -> None:
        """Adjust weights after the optimizer's step."""

    @abstractmethod
    def feasible(self, done: float) -> AbstractContextManager[bool]:
        """Hold the module at a point that satisfies the constraint at progress ``done``.

        Yields:
            True if that is the target constraint, so that the point may be kept as the result; always at ``done`` 1.
        """

    @abstractmethod
    def figures(self) -> LogEntry:
        """Return interim figures for progress and the report."""


@dataclass
class Best:
    """The best state that a phase has seen: values of the module's tensors, its formats, its score."""

    score: Score
    state: dict[str, Tensor]
    formats: dict[str, TensorFormat]

    @classmethod
    def of(cls, module: OnnxModule, score: Score) -> "Best":
        """Return a copy of the module's state."""
        return cls(score, {key: value.clone() for key, value in module.state_dict().items()}, dict(module.formats))

    def restore(self, module: OnnxModule) -> None:
        """Put the state back into the module."""
        module.load_state_dict(self.state)
        module.formats.clear()
        module.formats.update(self.formats)


def train(trainer: Trainer, stage: Stage, allowance: Allowance) -> list[LogEntry]:
    """Train in ``stage`` for the allowance and leave the module at the best feasible state seen.

    Raises:
        TrainingError: the loss or its gradient is not finite; the module is left at the best feasible state so far, or
            as it was when the phase began.
    """
    trainer.progress.phase(stage.name, allowance.weight)
    optimizer = torch.optim.Adam(stage.parameters(), trainer.learning_rate)
    best: Best | None = None
    start = Best.of(trainer.module, Score(None, math.inf))
    log: list[LogEntry] = []
    started, evaluated, average = time.monotonic(), (0, 0.0), 0.0
    for step, batch in enumerate(trainer.batches()):
        done = allowance.done(step, time.monotonic() - started)
        if step == 0 or done >= 1 or _is_due(trainer, step - evaluated[0], done - evaluated[1]):
            evaluated = step, done
            best = _evaluate(trainer, stage, best, log, {"step": step, "done": done, "loss": average})
            if not math.isfinite(float(log[-1]["selection_loss"])):
                _stop(trainer, stage, best or start, step)
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = trainer.learning_rate * learning_rate_at(done)
        loss = _step(trainer, stage, optimizer, batch)
        if not math.isfinite(loss):
            _stop(trainer, stage, best or start, step)
        average = loss if step == 0 else 0.98 * average + 0.02 * loss
        stage.after_step(step, done, optimizer)
        trainer.progress.update(done, {"loss": average, **_accuracy(log), **stage.figures()})
    if best is not None:
        best.restore(trainer.module)
    trainer.module.eval()
    return log


def learning_rate_at(done: float) -> float:
    """Return the learning rate as a share of its peak: a short linear rise, then a cosine to 2 % of the peak."""
    if done < WARM_UP:
        return 0.1 + 0.9 * done / WARM_UP
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))


def _accuracy(log: list[LogEntry]) -> LogEntry:
    """Return the accuracy that the last evaluation found, where there are labels."""
    return {"accuracy": log[-1]["selection_accuracy"]} if log and "selection_accuracy" in log[-1] else {}


def _is_due(trainer: Trainer, steps: int, advance: float) -> bool:
    """Return whether to evaluate, so many steps and so much progress after the last time.

    A step costs its samples four times (forward, backward twice that, teacher), an evaluation its own once.
    """
    cost = len(trainer.selection) / (4 * trainer.batch_size)
    return advance >= 1 / EVALUATIONS and cost <= EVALUATION_SHARE * steps


def _step(trainer: Trainer, stage: Stage, optimizer: torch.optim.Adam, batch: Batch) -> float:
    """Take one optimizer step and return the loss; NaN, and no step, where the gradient is not finite."""
    trainer.module.train(trainer.moves_normalization)
    inputs, labels = trainer.tensors(batch)
    optimizer.zero_grad()
    total = 0.0
    portion = trainer.portion or len(batch)
    for start in range(0, len(batch), portion):  # gradients add up where the model takes few samples at a time
        part = slice(start, start + portion)
        some = {name: value[part] for name, value in inputs.items()}
        with torch.no_grad():
            targets = trainer.teacher(some)
        loss = trainer.objective.loss(trainer.module(some), targets, None if labels is None else labels[part])
        loss = loss * (portion / len(batch))
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    stage.after_backward()
    gradients = [tensor.grad for tensor in stage.parameters() if tensor.grad is not None]
    if not bool(torch.isfinite(torch.nn.utils.get_total_norm(gradients))):
        return math.nan
    optimizer.step()
    return total


def _evaluate(trainer: Trainer, stage: Stage, best: Best | None, log: list[LogEntry], at: LogEntry) -> Best | None:
    with stage.feasible(float(at["done"])) as keep:
        score = trainer.settle() if keep else trainer.evaluate()
        if keep and math.isfinite(score.loss) and (best is None or score.better_than(best.score)):
            best = Best.of(trainer.module, score)
    entry: LogEntry = {"phase": stage.name, **at, "selection_loss": score.loss, **stage.figures()}
    if score.accuracy is not None:
        entry["selection_accuracy"] = score.accuracy
    log.append(entry)
    return best


def _stop(trainer: Trainer, stage: Stage, last_good: Best, step: int) -> NoReturn:
    finite = all(bool(torch.isfinite(tensor).all()) for tensor in trainer.module.state_dict().values())
    cause = "an output or a gradient of the model overflowed" if finite else "the weights overflowed"
    last_good.restore(trainer.module)
    raise TrainingError(
        f"the loss or its gradient became NaN or infinite in phase {stage.name!r} at step {step}; {cause}",
        hint=f"lower [train] learning_rate in a recipe (it was {trainer.learning_rate:g}), and check the data's scale "
        "(--mean, --std, --scale)",
    )
