"""The training loop that every pass shares: learning rate, evaluation, the best state, progress."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import NoReturn

import torch
from torch import Tensor

from calibration.data import Batch
from passes.allowance import Allowance
from passes.batches import Batches
from passes.gradient import add_gradient
from passes.schedule import falling_rate
from passes.trainer import Best, Trainer
from toolchain.checkpoint import State
from toolchain.errors import TrainingError

EVALUATIONS = 12  # interim evaluations per phase, at most
EVALUATION_SHARE = 0.1  # of the training between two evaluations that an evaluation may cost
WARM_UP = 0.1  # of a phase, in which the learning rate rises

LogEntry = dict[str, float | int | str]
Keep = Callable[[Callable[[], State]], None]  # is offered the state after every step, and asks for it when it wants it


def nothing(_: object) -> None:
    """Do nothing."""


class Stage(ABC):
    """What one kind of training adds to the loop."""

    name: str
    span: tuple[float, float]  # of a cycle of the learning rate: the part that the phase takes

    @property
    def sharpness(self) -> float:
        """The radius of the sharpness-aware gradient; 0 is the plain gradient."""
        return 0.0

    def learning_rate(self, done: float) -> float:
        """Return the learning rate at progress ``done`` as a share of its peak.

        A phase that takes up a cycle in its middle has an optimizer that knows nothing yet, so it begins slowly too.
        """
        begin, end = self.span
        return rise(done) * decay(begin + (end - begin) * done)

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

    @abstractmethod
    def state(self) -> State:
        """Return what the stage holds beside the module and the optimizer's state."""

    @abstractmethod
    def restore(self, state: State, optimizer: torch.optim.Adam) -> None:
        """Go on from a state; module and optimizer are back in theirs, and the stage was made from that module."""


@dataclass
class Training:
    """A phase under way: everything that decides how it goes on.

    Attributes:
        trainer: the models, the data, the judgement.
        stage: what this kind of training adds.
        allowance: how long it may take.
        optimizer: Adam over the stage's parameters.
        batches: what it trains on.
        started: ``time.monotonic()`` less the time that it has taken so far.
        step: optimizer steps so far.
        average: running average of the loss.
        evaluated: step and progress of the last evaluation.
        best: the best feasible state seen; None before the first evaluation.
        log: one entry per evaluation.
    """

    trainer: Trainer
    stage: Stage
    allowance: Allowance
    optimizer: torch.optim.Adam = field(init=False)
    batches: Batches = field(init=False)
    started: float = field(default_factory=time.monotonic)
    step: int = 0
    average: float = 0.0
    evaluated: tuple[int, float] = (0, 0.0)
    best: Best | None = None
    log: list[LogEntry] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin at step 0, with no gradient left by an earlier phase, whose optimizer cleared other tensors."""
        self.trainer.module.zero_grad()
        self.optimizer = torch.optim.Adam(self.stage.parameters(), self.trainer.learning_rate)
        self.batches = self.trainer.batches()

    def done(self) -> float:
        """Return the progress in 0..1."""
        return self.allowance.done(self.step, time.monotonic() - self.started)

    def is_due(self, done: float) -> bool:
        """Return whether to evaluate: at the start, at the end, and as often between as its cost allows."""
        if self.step == 0 or done >= 1:
            return True
        cost = self.trainer.judging_steps
        steps, advance = self.step - self.evaluated[0], done - self.evaluated[1]
        return advance >= 1 / EVALUATIONS and cost <= EVALUATION_SHARE * steps

    def evaluate(self, done: float) -> None:
        """Judge the feasible point, and keep it if it is the best.

        Raises:
            TrainingError: its loss is not finite.
        """
        self.evaluated = self.step, done
        # At the start the target's own projection is judged, so that training never ends worse than no training.
        with self.stage.feasible(done if self.step else 1.0) as keep:
            self.trainer.settle()  # on the way too: with the statistics of dense weights, pruned ones tell nothing
            score = self.trainer.evaluate()
            if keep and math.isfinite(score.loss) and (self.best is None or score.better_than(self.best.score)):
                self.best = Best.of(self.trainer.module, score)
        entry: LogEntry = {"phase": self.stage.name, "step": self.step, "done": done, "selection_loss": score.loss}
        entry |= self.stage.figures()
        if self.step:
            entry["loss"] = self.average
        if score.accuracy is not None:
            entry["selection_accuracy"] = score.accuracy
        self.log.append(entry)
        if not math.isfinite(score.loss):
            self.stop()

    def advance(self, done: float) -> None:
        """Take one optimizer step.

        Raises:
            TrainingError: the loss or its gradient is not finite.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.trainer.learning_rate * self.stage.learning_rate(done)
        loss = _step(self.trainer, self.stage, self.optimizer, next(self.batches))
        if not math.isfinite(loss):
            self.stop()
        self.average = loss if self.step == 0 else 0.98 * self.average + 0.02 * loss
        self.stage.after_step(self.step, done, self.optimizer)
        self.step += 1
        self.trainer.progress.update(done, {"loss": self.average, **_accuracy(self.log), **self.stage.figures()})

    def stop(self) -> NoReturn:
        """Put the best feasible state back, if there is one, and raise the error that says what overflowed."""
        values = self.trainer.module.state_dict().values()
        finite = all(bool(torch.isfinite(tensor).all()) for tensor in values)
        cause = "an output or a gradient of the model overflowed" if finite else "the weights overflowed"
        if self.best is not None:
            self.best.restore(self.trainer.module)
        raise TrainingError(
            f"the loss or its gradient became NaN or infinite in phase {self.stage.name!r} at step {self.step}; "
            f"{cause}",
            hint=f"lower [train] learning_rate in a recipe (it was {self.trainer.learning_rate:g}), and check the "
            "data's scale (--mean, --std, --scale)",
        )

    def state(self) -> State:
        """Return everything beside the module, the generators and the data."""
        return {
            "elapsed": time.monotonic() - self.started,
            "step": self.step,
            "average": self.average,
            "evaluated": list(self.evaluated),
            "best": None if self.best is None else self.best.state(),
            "log": self.log,
            "optimizer": self.optimizer.state_dict()["state"],
            "batches": self.batches.state(),
            "stage": self.stage.state(),
        }

    def restore(self, state: State) -> None:
        """Go on from a state; the module is back in its own, and the stage was made from it."""
        self.started = time.monotonic() - state["elapsed"]
        self.step, self.average, self.log = state["step"], state["average"], state["log"]
        self.evaluated = (state["evaluated"][0], state["evaluated"][1])
        self.best = None if state["best"] is None else Best.from_state(state["best"], self.trainer.module.device)
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state["optimizer"]})
        self.batches.restore(state["batches"])
        self.stage.restore(state["stage"], self.optimizer)


def train(
    trainer: Trainer, stage: Stage, allowance: Allowance, saved: State | None = None, keep: Keep = nothing
) -> list[LogEntry]:
    """Train in ``stage`` for the allowance and leave the module at the best feasible state seen.

    Args:
        trainer: the models, the data, the judgement.
        stage: what this kind of training adds.
        allowance: how long to train.
        saved: a state of this phase to go on from, which is emptied; the module, the generators and the data are as
            they were then.
        keep: is offered the state after every step.

    Raises:
        TrainingError: the loss or its gradient is not finite; the module is left at the best feasible state so far, or
            as it was when the phase began.
    """
    training = Training(trainer, stage, allowance)
    if saved is not None:
        training.restore(saved)
        saved.clear()  # else the callers keep its tensors in memory as long as the phase takes
    trainer.progress.phase(stage.name, allowance.weight, training.done() if saved is not None else 0.0)
    while True:
        done = training.done()
        if training.is_due(done):
            training.evaluate(done)
        if done >= 1:
            break
        training.advance(done)
        keep(training.state)
    if training.best is not None:
        training.best.restore(trainer.module)
    trainer.module.eval()
    return training.log


def rise(done: float) -> float:
    """Return the factor of the learning rate in the beginning of a phase: from a tenth to one."""
    return min(1.0, 0.1 + 0.9 * done / WARM_UP)


def decay(done: float) -> float:
    """Return the learning rate at progress ``done`` of a cycle as a share of its peak: it falls once it has risen."""
    return falling_rate(max(0.0, done - WARM_UP) / (1 - WARM_UP))


def _accuracy(log: list[LogEntry]) -> LogEntry:
    """Return the accuracy that the last evaluation found, where there are labels."""
    return {"accuracy": log[-1]["selection_accuracy"]} if log and "selection_accuracy" in log[-1] else {}


def _step(trainer: Trainer, stage: Stage, optimizer: torch.optim.Adam, batch: Batch) -> float:
    """Take one optimizer step and return the loss; NaN, and no step, where the gradient is not finite."""
    trainer.module.train(trainer.moves_normalization)
    loss = add_gradient(trainer, batch, stage.sharpness)
    stage.after_backward()
    gradients = [tensor.grad for tensor in stage.parameters() if tensor.grad is not None]
    if not bool(torch.isfinite(torch.nn.utils.get_total_norm(gradients))):
        return math.nan
    optimizer.step()
    optimizer.zero_grad()  # at once: updates and evaluations need the memory, and nothing there reads gradients
    return loss
