"""ADMM: trains the weights towards a constraint set, with the set tightened on the way."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn

from passes.admm import Admm, Projector, Residuals
from passes.base import Constraint, Formats, Tensors
from passes.reweighting import Reweighting
from passes.schedule import Schedule
from passes.snapping import Snapped
from passes.snapshot import Snapshot
from passes.training import LogEntry, Stage
from toolchain.checkpoint import State
from toolchain.formats import TensorFormat
from toolchain.module import OnnxModule


@dataclass
class AdmmStage(Stage):
    """Training under the ADMM penalty.

    Attributes:
        name: the phase's name in progress and report.
        module: the model.
        names: target tensors.
        constraint_at: the set at a progress in 0..1 of the tightening.
        schedule: when to update, how hard to pull, how the set tightens.
        span: the part that the phase takes of a cycle of the learning rate.
    """

    name: str
    module: OnnxModule
    names: tuple[str, ...]
    constraint_at: Callable[[float], Constraint]
    schedule: Schedule
    span: tuple[float, float] = (0.0, 1.0)
    frozen: dict[nn.Parameter, Tensor] = field(init=False)
    kept: int = field(init=False)
    weights: dict[str, nn.Parameter] = field(init=False)
    admm: Admm = field(init=False)
    residuals: Residuals | None = None
    pull: float = field(init=False)
    snapped: Snapped | None = None
    before: float = 0.0
    optimizer: torch.optim.Adam | None = None

    def __post_init__(self) -> None:
        """Start ADMM at the weights as they are; what earlier passes masked stays masked."""
        every = self.module.weights()
        self.weights = {name: every[name] for name in self.names}
        self.frozen = self._frozen()
        self.pull = self.schedule.first_pull
        start = self._constraint(0.0).fit(self.weights, self._fixed(), {})
        self.admm = Admm.start(self.weights, lambda name, value: start[name].project(value))
        self.kept = self._count()

    def parameters(self) -> list[Tensor]:
        """All trainable weights: biases and norms move along."""
        return list(self.module.parameters())

    def learning_rate(self, done: float) -> float:
        """Return the schedule's rate, or the phase's part of a cycle."""
        own = self.schedule.learning_rate(done)
        return super().learning_rate(done) if own is None else own

    @property
    def sharpness(self) -> float:
        """The radius of the sharpness-aware gradient."""
        return self.schedule.sharpness

    def after_backward(self) -> None:
        """Keep pruned weights at zero, of all tensors: masked ADMM (arXiv 1903.09769, section 3)."""
        for weight, mask in self.frozen.items():
            if weight.grad is not None:
                weight.grad.mul_(mask)

    def after_step(self, step: int, done: float, optimizer: torch.optim.Adam) -> None:
        """Pull towards Z; when it is time update Z and U, and end a stage of the tightening."""
        self.optimizer = optimizer
        before, self.before = self.before, done
        if self.schedule.stage(done) > self.schedule.stage(before):
            self._freeze(before)
        if 1 > self.schedule.snapped(done) > self.schedule.snapped(before):
            self._snap(done)
        rho = self.schedule.pull(done, self.pull)
        self.admm.pull(self.weights, rho)
        if self.snapped is not None:
            self.snapped.hold(self.weights, self.admm.z)
        if self.schedule.is_update(step, before, done):
            self.residuals = self.admm.update(
                self.weights, lambda values: self._projector(values, done), rho, self.schedule.damping
            )
            self.pull = self.schedule.balance(self.pull, self.residuals.primal, self.residuals.dual)
            self.kept = self._count()

    def _constraint(self, done: float) -> Constraint:
        return self.constraint_at(self.schedule.tightening(done))

    def _fixed(self) -> Formats:
        return {name: self.module.formats[name] for name in self.names if name in self.module.formats}

    def _frozen(self) -> dict[nn.Parameter, Tensor]:
        every = self.module.weights()
        masks = {name: earlier.mask for name, earlier in self.module.formats.items() if name in every}
        frozen = {every[name]: mask for name, mask in masks.items() if mask is not None}
        if self.snapped is not None:
            free = {self.weights[name]: ~fixed for name, fixed in self.snapped.fixed.items()}
            frozen |= {weight: free[weight] & frozen[weight] if weight in frozen else free[weight] for weight in free}
        return frozen

    def _fit(self, values: Tensors, done: float, prices: Reweighting | None) -> dict[str, TensorFormat]:
        """Return the formats of the set at progress ``done`` that lose least of these values, or of their worth."""
        if self.snapped is not None:
            return dict(self.snapped.formats)
        if prices is not None:
            return prices.fit(values, self._constraint(done), self._fixed())
        return self._constraint(done).fit(values, self._fixed(), self._curvature())

    def _prices(self) -> Reweighting | None:
        return Reweighting.of(self.admm.z) if self.schedule.reweighted else None

    def _projector(self, values: Tensors, done: float) -> Projector:
        """Return the projection onto the set at progress ``done``, or the reweighted shrinkage towards it."""
        prices = self._prices()
        formats = self._fit(values, done, prices)
        if prices is not None:
            return prices.projector(values, formats)
        return lambda name, value: formats[name].project(value)

    @torch.no_grad()
    def _freeze(self, done: float) -> None:
        """Hard-prune to the set of the stage that ends at progress ``done``: what is zero stays zero."""
        chosen = self._settled(done)
        for name, weight in self.weights.items():
            weight.copy_(chosen[name].project(weight))
            self._forget(weight, chosen[name].mask)
        self.module.formats.update(chosen)
        self.frozen = self._frozen()
        self.admm = Admm.start(self.weights, lambda name, value: chosen[name].project(value))

    @torch.no_grad()
    def _snap(self, done: float) -> None:
        """Fix more weights to their levels, and start ADMM again for the others."""
        before = self.snapped or Snapped.start(self.weights, self._settled(done))
        self.snapped = before.snap(self.weights, self.schedule.snapped(done))
        self.frozen = self._frozen()
        for weight in self.weights.values():
            self._forget(weight, self.frozen[weight])
        self.admm = Admm.start(self.weights, lambda name, value: before.formats[name].project(value))

    def _settled(self, done: float) -> dict[str, TensorFormat]:
        """Return the formats that ADMM has settled on at progress ``done``."""
        return self._fit(self._shifted(), done, self._prices())

    def _shifted(self) -> dict[str, Tensor]:
        """Return ``W + U``: its support is the one that ADMM has settled on."""
        return {name: weight + self.admm.u[name] for name, weight in self.weights.items()}

    def _forget(self, weight: nn.Parameter, mask: Tensor | None) -> None:
        """Take the momentum from weights that stay where they are, which it would move."""
        if self.optimizer is not None and weight in self.optimizer.state and mask is not None:
            self.optimizer.state[weight]["exp_avg"].mul_(mask)

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
        with torch.no_grad():
            chosen = self._settled(done)  # the values are those that were trained
        saved = Snapshot.of(self.module)  # after that, so that what choosing takes is not in memory beside it
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(chosen[name].project(weight))
        self.module.formats.update(chosen)
        try:
            yield self.schedule.tightening(done) >= 1
        finally:
            saved.restore(self.module)

    def _count(self) -> int:
        return sum(int(torch.count_nonzero(z)) for z in self.admm.z.values())

    def figures(self) -> LogEntry:
        """Return the kept weights, the pull, and the residuals of the last update once there was one."""
        residuals = {} if self.residuals is None else asdict(self.residuals)
        return {"kept": self.kept, **residuals, "pull": self.admm.rho}

    def state(self) -> State:
        """Return the split variables, and what the next step goes by."""
        residuals = None if self.residuals is None else asdict(self.residuals)
        pulls = {"pull": self.pull, "before": self.before}
        snapped = None if self.snapped is None else self.snapped.state()
        return {"admm": self.admm.state(), "kept": self.kept, "residuals": residuals, "snapped": snapped, **pulls}

    def restore(self, state: State, optimizer: torch.optim.Adam) -> None:
        """Go on from a state."""
        self.admm = Admm.from_state(state["admm"], self.module.device)
        self.kept = state["kept"]
        self.residuals = None if state["residuals"] is None else Residuals(**state["residuals"])
        self.pull, self.before = state["pull"], state["before"]
        if state["snapped"] is not None:
            self.snapped = Snapped.from_state(state["snapped"], self.module.device)
            self.frozen = self._frozen()
        self.optimizer = optimizer
