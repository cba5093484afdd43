"""The training loop that every pass shares: learning rate, evaluation, the best state, progress."""

import math
import time
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import NoReturn

import torch
from torch import Tensor

from calibration.data import Batch
from passes.allowance import Allowance
from passes.trainer import Best, Score, Trainer
from toolchain.errors import TrainingError

EVALUATIONS = 12  # interim evaluations per phase, at most
EVALUATION_SHARE = 0.2  # of the training between two evaluations that an evaluation may cost
WARM_UP = 0.1  # of a phase, in which the learning rate rises

LogEntry = dict[str, float | int | str]


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
    # At the start the target's own projection is judged, so that training never ends worse than no training.
    with stage.feasible(float(at["done"]) if at["step"] else 1.0) as keep:
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
