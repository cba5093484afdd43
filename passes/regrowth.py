"""Masks that go on searching: now and then the least of the kept weights are dropped, and as many others grow.

ADMM chooses its masks by weights that are still dense. Once they are pruned, the gradient at a pruned weight says what
it would be worth to have it back: RigL (Evci et al., "Rigging the lottery", ICML 2020, section 3), here with the counts
of a budget kept over all its tensors together instead of tensor by tensor, and gradients relative to how they vary.
With a gradient g and a curvature h the loss would fall by ``g^2 / 2h``, and the mean square of the gradients stands for
h (the diagonal of the Fisher information). Losses at the end, with g alone in brackets: LeNet-5 at 630x, 20 epochs,
0.258 (0.269); ResNet-20 at 10x, 3 epochs, 0.951 (0.963).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from passes.constraints import Budget, TopK
from toolchain.checkpoint import State
from toolchain.formats import TensorFormat

MEMORY = 0.98  # of the running means of the gradients: that of one batch is mostly noise
LEAST_SQUARE = 1e-20  # a mean square of gradients that say nothing


@dataclass
class Regrowth:
    """Moves masks within budgets of single weights; each keeps as many weights as it has.

    Attributes:
        budgets: the tensors that share a count; what they keep is counted from the masks.
        score: what ranks the kept weights, a key of ``SCORES``.
        share: of the kept weights that moves at once in the beginning; it falls as a cosine to nothing.
        every: steps between two moves.
        costs: of keeping one weight, by tensor name, by which its worth is divided; 1 where there is none.
        mean: running mean of the gradients at the pruned model, by tensor name.
        mean_square: running mean of their squares.
        reached: where a gradient since masks moved was not zero. What reads a channel that died then has had none,
            whatever the means remember; a weight that grew there would stay zero and be counted for nothing.
    """

    budgets: tuple[Budget, ...]
    score: str
    share: float = 0.1
    every: int = 64
    costs: Mapping[str, float] = field(default_factory=dict)
    mean: dict[str, Tensor] = field(default_factory=dict)
    mean_square: dict[str, Tensor] = field(default_factory=dict)
    reached: dict[str, Tensor] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors whose masks move."""
        return tuple(name for budget in self.budgets for name in budget.names)

    def observe(self, name: str, gradient: Tensor) -> None:
        """Take the gradient of the loss at a pruned weight, of its shape, into the means."""
        if name not in self.names:
            return
        for means, value in ((self.mean, gradient), (self.mean_square, gradient.square())):
            if name not in means:
                means[name] = torch.zeros_like(value)
            means[name].lerp_(value, 1 - MEMORY)
        has = gradient != 0
        self.reached[name] = self.reached[name] | has if name in self.reached else has

    def is_due(self, step: int) -> bool:
        """Return whether masks move after this step."""
        return step > 0 and step % self.every == 0

    @torch.no_grad()
    def move(
        self,
        formats: dict[str, TensorFormat],
        latent: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Adam,
        done: float,
    ) -> None:
        """Change the masks in ``formats``; what grows begins at zero, with the step size of its tensor.

        Args:
            formats: of the tensors, with masks.
            latent: the weights, zero outside their masks.
            optimizer: holds the moments of ``latent``.
            done: progress in 0..1.
        """
        share = self.share * 0.5 * (1 + math.cos(math.pi * done))
        for budget in self.budgets:
            names = [name for name in budget.names if name in self.reached and latent[name] in optimizer.state]
            before = {name: formats[name].mask for name in names}
            masks = {name: mask for name, mask in before.items() if mask is not None}
            kept = sum(int(mask.sum()) for mask in masks.values())
            # What has grown where no gradient comes any more has stayed zero: it is among the least, and goes at once.
            idle = sum(int((mask & (latent[name] == 0)).sum()) for name, mask in masks.items())
            stays = max(len(masks), kept - max(idle, round(share * kept)))
            if not masks or stays == kept:
                continue
            curvature = {name: optimizer.state[latent[name]]["exp_avg_sq"] for name in masks}
            values = {name: latent[name] for name in masks}
            constraint = TopK((Budget(tuple(masks), stays),), self.score, costs=self.costs)
            staying = constraint.fit(values, _only(masks), curvature)
            worth = {name: _worth(self._gain(name), masks[name], staying[name].mask) for name in masks}
            grown = TopK((Budget(tuple(masks), kept),), costs=self.costs).fit(worth, {}, {})
            for name, found in grown.items():
                formats[name] = replace(formats[name], mask=found.mask)
                _begin(latent[name], optimizer.state[latent[name]], masks[name], found.mask)
        self.reached.clear()

    def _gain(self, name: str) -> Tensor:
        """Return the root of what the loss would fall by with each weight, up to a factor; ranking squares it."""
        gain = self.mean[name] / self.mean_square[name].clamp_min(LEAST_SQUARE).sqrt()
        return gain.masked_fill(~self.reached[name], 0.0)

    def state(self) -> State:
        """Return what the next move goes by."""
        return {"mean": dict(self.mean), "mean_square": dict(self.mean_square), "reached": dict(self.reached)}

    def restore(self, state: State, device: torch.device) -> None:
        """Go on from a state, on ``device``."""
        self.mean = {name: value.to(device) for name, value in state["mean"].items()}
        self.mean_square = {name: value.to(device) for name, value in state["mean_square"].items()}
        self.reached = {name: value.to(device) for name, value in state["reached"].items()}


def _only(masks: Mapping[str, Tensor]) -> dict[str, TensorFormat]:
    return {name: TensorFormat(mask) for name, mask in masks.items()}


def _worth(gain: Tensor, mask: Tensor, stays: Tensor | None) -> Tensor:
    """Return infinity where a weight stays, zero where it is dropped, and its gain where it could grow."""
    worth = gain.masked_fill(mask, 0.0)
    return worth if stays is None else worth.masked_fill_(stays, math.inf)


def _begin(weight: nn.Parameter, moments: dict[str, Tensor], before: Tensor, after: Tensor | None) -> None:
    """Set what changed to zero, its first moment too, and the second moment of what grew to the mean of the kept."""
    if after is None:
        return
    changed, typical = before ^ after, moments["exp_avg_sq"][before].mean()
    weight.masked_fill_(changed, 0.0)
    moments["exp_avg"].masked_fill_(changed, 0.0)
    moments["exp_avg_sq"].copy_(torch.where(after & ~before, typical, moments["exp_avg_sq"]))
