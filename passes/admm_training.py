"""ADMM: trains the weights towards a constraint set, with the set tightened on the way."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from passes.admm import Admm, Residuals
from passes.base import Constraint
from passes.snapshot import Snapshot
from passes.training import LogEntry, Stage
from toolchain.checkpoint import State
from toolchain.formats import TensorFormat
from toolchain.module import OnnxModule


@dataclass(frozen=True)
class Penalty:
    """How strongly and how often ADMM pulls.

    Attributes:
        rho: strength of the pull per step at the end of the phase; it rises as a cosine ramp from 0 (SAFE, ICML 2025).
        update_every: optimizer steps between updates of Z and U; updates every few steps track a moving set far better
            than once an epoch.
        settled: part of the phase after which the constraint is at its target.
    """

    rho: float = 0.05
    update_every: int = 32
    settled: float = 0.8

    def strength(self, done: float) -> float:
        """Return the pull at progress ``done``."""
        return self.rho * 0.5 * (1 - math.cos(math.pi * done))

    def tightening(self, done: float) -> float:
        """Return how far the constraint is tightened, in 0..1, at progress ``done``."""
        return min(1.0, done / self.settled) if self.settled > 0 else 1.0


@dataclass
class AdmmStage(Stage):
    """Training under the ADMM penalty.

    Attributes:
        name: the phase's name in progress and report.
        module: the model.
        names: target tensors.
        constraint_at: the set at a progress in 0..1 of the tightening.
        penalty: schedule of the pull.
    """

    name: str
    module: OnnxModule
    names: tuple[str, ...]
    constraint_at: Callable[[float], Constraint]
    penalty: Penalty
    fixed: dict[str, TensorFormat] = field(init=False)
    frozen: dict[nn.Parameter, Tensor] = field(init=False)
    kept: int = field(init=False)
    weights: dict[str, nn.Parameter] = field(init=False)
    admm: Admm = field(init=False)
    residuals: Residuals = field(default_factory=lambda: Residuals(0.0, 0.0))
    optimizer: torch.optim.Adam | None = None

    def __post_init__(self) -> None:
        """Start ADMM at the weights as they are; what earlier passes masked stays masked."""
        every = self.module.weights()
        self.weights = {name: every[name] for name in self.names}
        self.fixed = {name: self.module.formats[name] for name in self.names if name in self.module.formats}
        masks = {name: earlier.mask for name, earlier in self.module.formats.items() if name in every}
        self.frozen = {every[name]: mask for name, mask in masks.items() if mask is not None}
        self.admm = Admm.start(self.weights, self.constraint_at(0.0), self.fixed, {})
        self.kept = self._count()

    def parameters(self) -> list[Tensor]:
        """All trainable weights: biases and norms move along."""
        return list(self.module.parameters())

    def after_backward(self) -> None:
        """Keep pruned weights at zero, of all tensors: masked ADMM (arXiv 1903.09769, section 3)."""
        for weight, mask in self.frozen.items():
            if weight.grad is not None:
                weight.grad.mul_(mask)

    def after_step(self, step: int, done: float, optimizer: torch.optim.Adam) -> None:
        """Pull towards Z; every few steps update Z and U."""
        self.optimizer = optimizer
        rho = self.penalty.strength(done)
        self.admm.pull(self.weights, rho)
        if step % self.penalty.update_every == 0:
            constraint = self.constraint_at(self.penalty.tightening(done))
            self.residuals = self.admm.update(self.weights, constraint, self.fixed, self._curvature(), rho)
            self.kept = self._count()

    def _curvature(self) -> dict[str, Tensor]:
        """Return Adam's second moments; nothing before the first step.

        They are the mean squared gradients: a diagonal estimate of the Fisher information. A weight that no output
        depends on has none, and is worth nothing.
        """
        if self.optimizer is None:
            return {}
        state = self.optimizer.state
        return {
            name: state[weight]["exp_avg_sq"] if weight in state else torch.zeros_like(weight)
            for name, weight in self.weights.items()
        }

    @contextmanager
    def feasible(self, done: float) -> Iterator[bool]:
        """Project the weights for the time of the context; they may be kept once the set is at its target."""
        saved = Snapshot.of(self.module)
        with torch.no_grad():
            # The support is the one that ADMM has settled on, W + U; the values are those that were trained.
            shifted = {name: weight + self.admm.u[name] for name, weight in self.weights.items()}
            chosen = self.constraint_at(self.penalty.tightening(done)).fit(shifted, self.fixed, self._curvature())
            for name, weight in self.weights.items():
                weight.copy_(chosen[name].project(weight))
        self.module.formats.update(chosen)
        try:
            yield done >= self.penalty.settled
        finally:
            saved.restore(self.module)

    def _count(self) -> int:
        return sum(int(torch.count_nonzero(z)) for z in self.admm.z.values())

    def figures(self) -> LogEntry:
        """Return the kept weights and the residuals."""
        return {"kept": self.kept, "primal": self.residuals.primal, "dual": self.residuals.dual}

    def state(self) -> State:
        """Return the split variables and what ``figures`` shows."""
        residuals = {"primal": self.residuals.primal, "dual": self.residuals.dual}
        return {"admm": self.admm.state(), "kept": self.kept, "residuals": residuals}

    def restore(self, state: State, optimizer: torch.optim.Adam) -> None:
        """Go on from a state."""
        self.admm = Admm.from_state(state["admm"], self.module.device)
        self.kept, self.residuals = state["kept"], Residuals(**state["residuals"])
        self.optimizer = optimizer
