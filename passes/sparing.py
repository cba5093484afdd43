"""Finds tensors that have to stay float, as rounding one of them alone makes the outputs meaningless."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from passes.constraints import Levels, LevelTarget
from passes.objective import CONSTANT
from passes.projection import project_onto
from passes.snapshot import Snapshot
from passes.trainer import Trainer
from toolchain.module import OnnxModule

# Loss that rounding may add, as a part of what one mean answer to all inputs loses: from there on outputs say next to
# nothing of the inputs.
LIMIT = 0.9

# Part of the loss that leaving tensors out may leave where the rest is still beyond the limit. ResNet-20 in 2 bits, no
# data: 7 of 20 tensors are beyond it alone, and leaving them out makes 3.8 of 6.3.
HELP = 0.1

SAMPLES = 64  # held-out ones that it is measured on
SECONDS = 60.0  # for rounding tensors one by one; those that were not reached are counted, and stay rounded

Without = Callable[[Sequence[str]], None]


@dataclass(frozen=True)
class Spared:
    """Which tensors stay float.

    Attributes:
        losses: of the model with such a tensor alone rounded, in units of what one mean answer to all inputs loses.
        unmeasured: how many tensors there was no time to round alone.
    """

    losses: Mapping[str, float] = field(default_factory=dict)
    unmeasured: int = 0


@torch.no_grad()
def spare(
    trainer: Trainer,
    before: Snapshot,
    targets: Mapping[str, LevelTarget],
    without: Without,
    seconds: float = SECONDS,
) -> Spared:
    """Leave tensors in float that make the outputs meaningless when rounded alone, if all together do so.

    The worst goes first, then the next, until the rest adds no more than the limit. Where it never does, as there are
    too few bits for the model as a whole, only those stay in float without which the loss is a small part of what it
    was. Where nothing is wrong this takes one evaluation, on a few held-out samples.

    Args:
        trainer: with all targets rounded; its module is changed in place.
        before: the module with none of them rounded.
        targets: the grid of every tensor.
        without: changes the module, as it is rounded now, so that the named tensors are not.
        seconds: of rounding tensors one by one.
    """
    gauge, module = _Gauge.of(trainer), trainer.module
    last = lowest = gauge.loss()
    if last <= LIMIT:
        return Spared()
    trainer.progress.phase("find what must stay float", 0.0)
    until, rounded = time.monotonic() + seconds, Snapshot.of(module)
    before.restore(module)
    least = gauge.loss()
    if least > LIMIT or last - least <= LIMIT:  # it is not the rounding
        rounded.restore(module)
        return Spared()
    alone = _round_alone(gauge, before, targets, until)
    guilty = sorted((name for name, loss in alone.items() if loss - least > LIMIT), key=lambda name: -alone[name])
    count = helpful = 0
    while last - least > LIMIT and count < len(guilty):
        count = count + 1 if time.monotonic() <= until else len(guilty)
        rounded.restore(module)
        without(guilty[:count])
        last = gauge.loss()
        if last - least <= LIMIT or last < HELP * lowest:
            helpful, lowest = count, last
    if helpful == 0 or helpful < count:
        rounded.restore(module)
        if helpful:
            without(guilty[:helpful])
    return Spared({name: alone[name] for name in guilty[:helpful]}, len(targets) - len(alone))


@dataclass(frozen=True)
class _Gauge:
    """Measures how far outputs are from the original's.

    Attributes:
        trainer: with few samples and no labels: what counts is how far the outputs are from the original's.
        unit: the loss of one mean answer to all inputs; infinite where the original answers the same to all.
    """

    trainer: Trainer
    unit: float

    @classmethod
    def of(cls, trainer: Trainer) -> "_Gauge":
        few = trainer.with_few(SAMPLES)
        few = replace(few, selection=replace(few.selection, labels=None))
        means, loss, samples = _means(few), 0.0, 0
        for batch in few.held_out() if means else ():
            samples += batch.samples
            answer = {name: mean.to(batch.targets[name]).expand_as(batch.targets[name]) for name, mean in means.items()}
            loss += float(few.objective.loss(answer, batch.targets, None)) * batch.samples
        unit = loss / max(1, samples)
        return cls(few, unit if unit > CONSTANT else math.inf)

    def loss(self) -> float:
        """Return the loss of the module as it is, in units of ``unit``; infinite where outputs are no numbers."""
        loss = self.trainer.evaluate().loss / self.unit
        return math.inf if math.isnan(loss) else loss


def _round_alone(gauge: _Gauge, before: Snapshot, targets: Mapping[str, LevelTarget], until: float) -> dict[str, float]:
    """Return the loss with each tensor alone rounded to nearest, of as many as there is time for.

    Those with far outliers come first: they make the steps of all other values coarse.
    """
    module, losses = gauge.trainer.module, dict[str, float]()
    for name in sorted(targets, key=lambda name: -_peak(module.tensor(name))):
        if time.monotonic() > until:
            break
        project_onto(module, (name,), Levels({name: targets[name]}))
        losses[name] = gauge.loss()
        before.restore(module)
    return losses


def _means(trainer: Trainer) -> dict[str, Tensor]:
    """Return the original's mean answer by output: a single number where answers differ in their shapes."""
    sums: dict[str, Tensor] = {}
    rows: dict[str, int] = {}
    for batch in trainer.held_out():
        for name in trainer.objective.outputs:
            value = batch.targets[name].double()
            value = value if value.ndim else value[None]
            total, earlier = value.sum(0), sums.get(name)
            if earlier is not None and earlier.shape != total.shape:
                total, earlier = total.mean(), earlier.mean()
            sums[name] = total if earlier is None else earlier + total
            rows[name] = rows.get(name, 0) + len(value)
    return {name: total / max(1, rows[name]) for name, total in sums.items()}


def _peak(weight: Tensor) -> float:
    """Return how many times the mean size of the values the largest has."""
    size = weight.abs()
    return float(size.max() / size.mean().clamp_min(CONSTANT)) if weight.numel() else 0.0


def describe_spared(spared: Spared, targets: Mapping[str, LevelTarget], module: OnnxModule) -> list[str]:
    """Return what the report says of the tensors that stay float, a sentence each."""
    notes = []
    for name, loss in spared.losses.items():
        found, bits = module.formats.get(name), targets[name].bits
        kept = module.tensor(name).numel() if found is None or found.mask is None else int(found.mask.sum())
        worse = (
            f"{loss:,.3g} times as far off as one mean answer to all inputs" if math.isfinite(loss) else "no numbers"
        )
        notes.append(
            f"{name!r} stays float: with it alone rounded to {bits} bits, the outputs are {worse}; "
            f"its values take {4 * kept:,} bytes in place of {-(-kept * bits // 8):,}."
        )
    if spared.unmeasured:
        notes.append(
            f"Rounding all tensors makes the outputs meaningless, and there was no time to round {spared.unmeasured} "
            f"of the {len(targets)} alone to see whether it is by them."
        )
    return notes
