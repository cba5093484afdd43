"""Reweighted shrinkage: what the projection keeps it shrinks, small weights more than large ones.

The proximal step of a reweighted l1 norm, ``Z = soft(W + U, lambda a)`` with ``a = 1 / (|z| + eps)`` of the Z before
(Candes, Wakin and Boyd 2008, section 2.2; for networks Neural Networks 179 (2024) 106534, whose own equations were not
at hand). Every tensor is measured in units of its root mean square, so that one lambda serves all; lambda is the one at
which exactly as many weights stay as the set asks for. That is of single weights: where weights go together, the
largest of those that go would shrink most of those that stay to nothing.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from passes.admm import Projector
from passes.base import Constraint, Formats, Tensors
from toolchain.formats import TensorFormat

EPSILON = 0.1  # root mean squares of its tensor, below which a weight is shrunk no harder


@dataclass(frozen=True)
class Reweighting:
    """What each weight pays for being there.

    Attributes:
        price: ``a`` in units of the tensor's root mean square, by name.
    """

    price: dict[str, Tensor]

    @classmethod
    def of(cls, values: Tensors) -> "Reweighting":
        """Return the prices that the values of Z lead to."""
        price = {}
        for name, value in values.items():
            unit = value.square().mean().sqrt().clamp_min(1e-12)
            price[name] = unit / ((value.abs() / unit) + EPSILON)
        return cls(price)

    @torch.no_grad()
    def fit(self, values: Tensors, constraint: Constraint, fixed: Formats) -> dict[str, TensorFormat]:
        """Return the formats that the constraint gives to the values per price."""
        return constraint.fit({name: value / self.price[name] for name, value in values.items()}, fixed, {})

    @torch.no_grad()
    def projector(self, values: Tensors, formats: Formats) -> Projector:
        """Return what shrinks each tensor by the lambda at which just those weights stay that the formats keep."""
        dropped = ((value - formats[name].project(value)) / self.price[name] for name, value in values.items())
        threshold = max(float(value.abs().max()) for value in dropped)
        return lambda name, value: _soft(formats[name].project(value), threshold * self.price[name])


def _soft(values: Tensor, threshold: Tensor) -> Tensor:
    """Return the values moved towards zero by the threshold, or to zero."""
    return values.sign() * (values.abs() - threshold).clamp_min(0.0)
