"""The alternating direction method of multipliers, once, for every constraint set.

    minimise f(W) subject to W in S, split as f(W) + indicator_S(Z) with W = Z and the scaled dual U:

        W: gradient steps on f(W) + rho/2 |W - Z + U|^2
        Z: project_S(W + U)
        U: U + W - Z

Boyd et al. 2011, section 3.1.1 (scaled form); for networks arXiv 1804.03294. The penalty is applied beside the
optimizer's step, not through its gradient, so that an adaptive optimizer does not normalise it away (as decoupled
weight decay).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from passes.base import Tensors
from toolchain.checkpoint import State

# Sees the values of all targets together, and returns what projects those of one: (name, values) -> new values.
Projector = Callable[[str, Tensor], Tensor]
Choose = Callable[[Tensors], Projector]


@dataclass(frozen=True)
class Residuals:
    """Root-mean-square residuals over all weights: primal ``W - Z``, dual ``rho (Z - Z_previous)``."""

    primal: float
    dual: float


@dataclass
class Admm:
    """The split variables of one run.

    Attributes:
        z: the projected copy of every target, by name.
        u: the scaled dual of every target.
        rho: the penalty that ``u`` is scaled by.
    """

    z: dict[str, Tensor]
    u: dict[str, Tensor]
    rho: float = 0.0

    @classmethod
    @torch.no_grad()
    def start(cls, weights: Tensors, project: Projector) -> "Admm":
        """Return ``Z = project(W), U = 0``."""
        return cls(
            z={name: project(name, weight.detach()) for name, weight in weights.items()},
            u={name: torch.zeros_like(weight) for name, weight in weights.items()},
        )

    def state(self) -> State:
        """Return everything as a checkpoint holds it."""
        return {"z": dict(self.z), "u": dict(self.u), "rho": self.rho}

    @classmethod
    def from_state(cls, state: State, device: torch.device) -> "Admm":
        """Return what ``state`` was made of, on ``device``."""
        z, u = ({name: value.to(device) for name, value in state[key].items()} for key in ("z", "u"))
        return cls(z, u, state["rho"])

    @torch.no_grad()
    def pull(self, weights: Mapping[str, Tensor], strength: float) -> None:
        """Move W in place by one gradient step on the penalty: ``W -= strength (W - Z + U)``."""
        for name, weight in weights.items():
            weight.mul_(1 - strength).add_(self.z[name], alpha=strength).sub_(self.u[name], alpha=strength)

    @torch.no_grad()
    def update(self, weights: Tensors, choose: Choose, rho: float, damping: float = 1.0) -> Residuals:
        """Update Z and U, and return the residuals.

        A scaled dual is the multiplier divided by rho: when rho grows, U shrinks by the same factor, and grows when rho
        falls (Boyd et al. 2011, section 3.4.1). Meanwhile U holds W + U, and the old Z the differences that the
        residuals are the size of: beside Z, U and what the choice needs there is only the new Z of one tensor.

        Args:
            weights: W by name.
            choose: makes the projection of ``W + U``.
            rho: of the penalty from now on.
            damping: factor of the dual afterwards, 0..1; less than 1 forgets what pulled long ago.
        """
        rescaled = self.rho / rho if rho > 0 else 1.0
        self.rho = rho
        for name, weight in weights.items():
            self.u[name].mul_(rescaled).add_(weight)
        project = choose(self.u)
        primal = dual_change = 0.0
        count = 0
        for name, weight in weights.items():
            projected = project(name, self.u[name])
            self.u[name].sub_(projected).mul_(damping)
            spent = self.z.pop(name)
            dual_change += float(spent.sub_(projected).norm()) ** 2
            primal += float(spent.copy_(weight).sub_(projected).norm()) ** 2
            self.z[name] = projected
            count += weight.numel()
        return Residuals((primal / count) ** 0.5, rho * (dual_change / count) ** 0.5)
