"""The extension points: constraint sets, passes, and what a pass returns."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from toolchain.formats import TensorFormat

if TYPE_CHECKING:
    from passes.allowance import Allowance
    from passes.phase import Phase
    from passes.trainer import Trainer

Tensors = Mapping[str, Tensor]
Formats = Mapping[str, TensorFormat]


class Constraint(ABC):
    """A set that weights must lie in, given by its Euclidean projection in two steps.

    ``fit`` makes the combinatorial choice and sees all target tensors together, so a global budget is a set too;
    the formats it returns then project tensor by tensor.
    """

    @abstractmethod
    def fit(self, weights: Tensors, fixed: Formats, curvature: Tensors) -> dict[str, TensorFormat]:
        """Return the format of every tensor in ``weights``.

        Args:
            weights: the values to approximate, by initializer name.
            fixed: formats that earlier passes set; what they fixed stays.
            curvature: a diagonal estimate of the loss's curvature per element, where one is known; weighs the squared
                error of each element.
        """


@dataclass(frozen=True)
class PassResult:
    """What a pass did.

    Attributes:
        changed: names of the tensors whose format it set.
        log: one entry per interim evaluation: phase, step, loss, residuals, kept weights and so on; JSON-able.
    """

    changed: tuple[str, ...]
    log: tuple[Mapping[str, float | int | str], ...] = ()


class Pass(ABC):
    """Changes the weights and formats of a model; its options are its fields."""

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """The tensors whose format it sets."""

    @abstractmethod
    def phases(self) -> "tuple[Phase, ...]":
        """Return what it does, in order.

        Formats change on the pass's targets alone, what earlier passes fixed stays, and every weight lies in its format
        afterwards.
        """

    def run(self, trainer: "Trainer", allowance: "Allowance") -> PassResult:
        """Change ``trainer.module`` in place, training no longer than the allowance."""
        logs = [phase.run(trainer, allowance.share(phase.share)) for phase in self.phases()]
        return PassResult(self.names, tuple(entry for log in logs for entry in log))
