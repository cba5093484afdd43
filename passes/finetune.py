"""Fine-tuning inside the formats: masks frozen, values on their grids, gradients straight through."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from passes.base import Constraint
from passes.training import LogEntry, Stage
from toolchain.checkpoint import State
from toolchain.module import OnnxModule


@dataclass
class FinetuneStage(Stage):
    """Trains latent weights whose projections are the module's weights (Bengio et al. 2013, straight-through).

    Attributes:
        name: the phase's name in progress and report.
        module: the model; its weights lie in their formats at every moment.
        refit: the set whose scales follow the latent weights during the first part of the phase; None keeps them.
        refit_every: steps between two refits.
        frozen_from: progress from which scales no longer move.
    """

    name: str
    module: OnnxModule
    refit: Constraint | None = None
    refit_every: int = 32
    frozen_from: float = 0.6
    weights: dict[str, nn.Parameter] = field(init=False)
    latent: dict[str, nn.Parameter] = field(init=False)
    kept: int = field(init=False)

    def __post_init__(self) -> None:
        """Start from the module's weights."""
        every = self.module.weights()
        self.weights = {name: every[name] for name in self.module.formats if name in every}
        self.latent = {name: nn.Parameter(weight.detach().clone()) for name, weight in self.weights.items()}
        self._project()
        self.kept = self._count()

    def parameters(self) -> list[Tensor]:
        """The latent weights, and every parameter that has no format."""
        formatted = {id(weight) for weight in self.weights.values()}
        return [*self.latent.values(), *(p for p in self.module.parameters() if id(p) not in formatted)]

    def after_backward(self) -> None:
        """Hand the gradient of the projected weight to the latent one, where the mask keeps it."""
        for name, weight in self.weights.items():
            gradient, weight.grad = weight.grad, None
            mask = self.module.formats[name].mask
            self.latent[name].grad = gradient if mask is None or gradient is None else gradient.mul_(mask)

    def after_step(self, step: int, done: float, optimizer: torch.optim.Adam) -> None:  # noqa: ARG002 - Stage's signature
        """Project the latent weights into their formats."""
        if self.refit is not None and done < self.frozen_from and step % self.refit_every == 0:
            self.module.formats.update(self.refit.fit(self.latent, self.module.formats, {}))
        self._project()
        if step % self.refit_every == 0:
            self.kept = self._count()

    def _count(self) -> int:
        return sum(int(torch.count_nonzero(weight)) for weight in self.weights.values())

    @torch.no_grad()
    def _project(self) -> None:
        for name, weight in self.weights.items():
            weight.copy_(self.module.formats[name].project(self.latent[name]))

    @contextmanager
    def feasible(self, done: float) -> Iterator[bool]:  # noqa: ARG002 - Stage's signature
        """Yield True: the module always lies in its formats."""
        yield True

    def figures(self) -> LogEntry:
        """Return how many weights of the tensors that have a format are not zero."""
        return {"kept": self.kept}

    def state(self) -> State:
        """Return the latent weights and what ``figures`` shows."""
        return {"latent": {name: latent.detach() for name, latent in self.latent.items()}, "kept": self.kept}

    @torch.no_grad()
    def restore(self, state: State, optimizer: torch.optim.Adam) -> None:  # noqa: ARG002 - Stage's signature
        """Put the latent weights back; the module's lie in their formats already."""
        for name, latent in self.latent.items():
            latent.copy_(state["latent"][name])
        self.kept = state["kept"]
