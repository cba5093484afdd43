"""Fine-tuning inside the formats: masks frozen, values on their grids, gradients straight through."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from passes.base import Constraint
from passes.regrowth import Regrowth
from passes.scales import LearnedScales
from passes.snapshot import Snapshot
from passes.training import LogEntry, Stage
from toolchain.checkpoint import State
from toolchain.module import OnnxModule


@dataclass
class FinetuneStage(Stage):
    """Trains latent weights whose projections are the module's weights (Bengio et al. 2013, straight-through).

    Masks stay as they are, unless a regrowth moves them.

    With a blend the module begins with its weights before compression, which then fade: its weights are ``beta * dense
    + (1 - beta) * projection``, beta from 1 to 0 (VCON, 2025). Whatever is judged or kept is the projection alone.

    Attributes:
        name: the phase's name in progress and report.
        module: the model; its weights lie in their formats at every moment.
        refit: the set whose scales follow the latent weights during the first part of the phase; None keeps them.
        refit_every: steps between two refits.
        frozen_from: progress from which scales no longer move.
        learns_scales: whether scales learn by their gradients instead (``LearnedScales``).
        dense: weights before compression, by tensor name.
        blend: part of the phase over which they fade; 0 does without.
        regrowth: what moves masks; None leaves them.
        span: the part that the phase takes of a cycle of the learning rate.
    """

    name: str
    module: OnnxModule
    refit: Constraint | None = None
    refit_every: int = 32
    frozen_from: float = 0.6
    learns_scales: bool = False
    dense: Mapping[str, Tensor] = field(default_factory=dict)
    blend: float = 0.0
    regrowth: Regrowth | None = None
    span: tuple[float, float] = (0.0, 1.0)
    beta: float = field(init=False)
    weights: dict[str, nn.Parameter] = field(init=False)
    latent: dict[str, nn.Parameter] = field(init=False)
    kept: int = field(init=False)
    scales: LearnedScales = field(init=False)

    def __post_init__(self) -> None:
        """Start from the module's weights."""
        every = self.module.weights()
        self.weights = {name: every[name] for name in self.module.formats if name in every}
        self.latent = {name: nn.Parameter(weight.detach().clone()) for name, weight in self.weights.items()}
        formats = {name: self.module.formats[name] for name in self.weights} if self.learns_scales else {}
        self.scales = LearnedScales(formats)
        self._project()
        self.kept = self._count()
        self._fade(0.0)

    def parameters(self) -> list[Tensor]:
        """The latent weights, the scales that learn, and every parameter that has no format."""
        formatted = {id(weight) for weight in self.weights.values()}
        others = [p for p in self.module.parameters() if id(p) not in formatted]
        return [*self.latent.values(), *others, *self.scales.logarithms.values()]

    def after_backward(self) -> None:
        """Hand the gradient of the projected weight to the latent one, where the mask keeps it."""
        for name, weight in self.weights.items():
            gradient, weight.grad = weight.grad, None
            if gradient is not None and name in self.scales.logarithms:
                self.scales.add_gradient(name, self.latent[name].detach(), gradient)
            mask = self.module.formats[name].mask
            if self.regrowth is not None and gradient is not None:
                self.regrowth.observe(name, gradient)
            self.latent[name].grad = gradient if mask is None or gradient is None else gradient.mul_(mask)
            if gradient is not None and self._blends(name):
                gradient.mul_(1 - self.beta)

    def after_step(self, step: int, done: float, optimizer: torch.optim.Adam) -> None:
        """Project the latent weights into their formats, and blend them with the dense ones."""
        if step % self.refit_every == 0:
            self.kept = self._count()  # before masks move: what has just grown is still zero
        if self.regrowth is not None and self.regrowth.is_due(step):
            self.regrowth.move(self.module.formats, self.latent, optimizer, done)
        self.module.formats.update(self.scales.tightened(self.module.formats))
        if (
            self.refit is not None
            and not self.learns_scales
            and done < self.frozen_from
            and step % self.refit_every == 0
        ):
            self.module.formats.update(self.refit.fit(self.latent, self.module.formats, {}))
        self._project()
        self._fade(done)

    def _fade(self, done: float) -> None:
        """Blend the projected weights with what is left of the dense ones at progress ``done``."""
        self.beta = max(0.0, 1 - done / self.blend) if self.blend > 0 else 0.0
        self._mix()

    @torch.no_grad()
    def _mix(self) -> None:
        for name, weight in self.weights.items():
            if self._blends(name):
                weight.lerp_(self.dense[name].to(weight), self.beta)

    def _blends(self, name: str) -> bool:
        return self.beta > 0 and name in self.dense

    def _count(self) -> int:
        formats = self.module.formats  # not the module's weights, which may be blended with dense ones
        return sum(int(torch.count_nonzero(formats[name].project(latent))) for name, latent in self.latent.items())

    @torch.no_grad()
    def _project(self) -> None:
        for name, weight in self.weights.items():
            weight.copy_(self.module.formats[name].project(self.latent[name]))

    @contextmanager
    def feasible(self, done: float) -> Iterator[bool]:  # noqa: ARG002 - Stage's signature
        """Yield True: the module lies in its formats, or does for the time of the context."""
        if self.beta == 0:
            yield True
            return
        saved = Snapshot.of(self.module)
        self._project()
        try:
            yield True
        finally:
            saved.restore(self.module)

    def figures(self) -> LogEntry:
        """Return how many weights of the tensors that have a format are not zero."""
        return {"kept": self.kept}

    def state(self) -> State:
        """Return the latent weights, the blend and what ``figures`` shows."""
        latent = {name: latent.detach() for name, latent in self.latent.items()}
        regrowth = {} if self.regrowth is None else self.regrowth.state()
        state: State = {"latent": latent, "kept": self.kept, "beta": self.beta, "regrowth": regrowth}
        return state | {"scales": self.scales.state()}

    @torch.no_grad()
    def restore(self, state: State, optimizer: torch.optim.Adam) -> None:  # noqa: ARG002 - Stage's signature
        """Put the latent weights back, and the module's where those make them."""
        for name, latent in self.latent.items():
            latent.copy_(state["latent"][name])
        self.kept, self.beta = state["kept"], state["beta"]
        self.scales.restore(state["scales"])
        if self.regrowth is not None:
            self.regrowth.restore(state["regrowth"], self.module.device)
        self._project()
        self._mix()
