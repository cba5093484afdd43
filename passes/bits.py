"""Mixed precision: how many bits each tensor needs so that the whole loses no more than it may.

Every tensor is rounded alone, at every number of bits, and the loss on held-out data measured: its sensitivity. From
the fewest bits for all, one step after the other gives bits to the tensor whose loss falls most per bit of the file;
steps that a later one of the same tensor outdoes are taken with it, so the path runs along the convex hull of every
tensor. The first model on the path whose measured drop is within the limit is searched for by bisection, each candidate
rounded as a whole as the final one will be.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from calibration.classes import class_outputs
from passes.constraints import Levels, LevelTarget
from passes.projection import project_onto
from passes.snapshot import Snapshot
from passes.trainer import Trainer

BITS = (2, 3, 4, 5, 6, 8)
SENSITIVITY_SAMPLES = 512  # of the held-out data; the loss, unlike the accuracy, is known well enough from few
SENSITIVITY_SHARE = 0.3  # of the search, for the time left

Assignment = dict[str, int]
Round = Callable[[Assignment], None]


@dataclass(frozen=True)
class BitChoice:
    """The bits of every tensor.

    Attributes:
        bits: by tensor name.
        drop: in percentage points, on the selection data, of the whole model at these bits.
        within: whether that is within the limit.
    """

    bits: Assignment
    drop: float
    within: bool


def choose_bits(
    trainer: Trainer, targets: Mapping[str, Mapping[int, LevelTarget]], limit: float, round_all: Round
) -> BitChoice:
    """Return the fewest bits at which the model loses at most ``limit`` points; the module is left as it was.

    Where it loses more than that with the most bits, those at which it loses no more than with them.

    Args:
        trainer: the model, its original and the selection data.
        targets: the grid of every tensor by number of bits.
        limit: percentage points of accuracy; of agreement with the original without labels, or of cosine similarity
            where no output has classes.
        round_all: puts the module on the grids of an assignment.
    """
    before = Snapshot.of(trainer.module)
    # A tensor of nothing but zeros costs as little as one weight.
    sizes = {name: max(1, int(torch.count_nonzero(trainer.module.tensor(name)))) for name in targets}
    few, losses = trainer.with_few(SENSITIVITY_SAMPLES), {}
    for done, (name, grids) in enumerate(targets.items()):
        losses[name] = _sensitivity(few, name, grids)
        trainer.progress.update(SENSITIVITY_SHARE * (done + 1) / len(targets), {})
    path = upgrade_path(losses, sizes)
    drops: dict[int, float] = {}
    most = len(path).bit_length()

    def measure(place: int) -> float:
        if place not in drops:
            round_all(path[place])
            drops[place] = drop(trainer)
            before.restore(trainer.module)
            share = min(1.0, len(drops) / most)
            trainer.progress.update(SENSITIVITY_SHARE + (1 - SENSITIVITY_SHARE) * share, {})
        return drops[place]

    def fewest(most_lost: float) -> int:
        low, high = 0, len(path) - 1
        while low < high:
            middle = (low + high) // 2
            if measure(middle) <= most_lost:
                high = middle
            else:
                low = middle + 1
        return low

    place = fewest(limit)
    within = measure(place) <= limit
    if not within:  # what pruning has lost, no number of bits brings back
        place = fewest(measure(place))
    return BitChoice(path[place], measure(place), within)


def _sensitivity(trainer: Trainer, name: str, grids: Mapping[int, LevelTarget]) -> dict[int, float]:
    """Return the loss on the selection data with one tensor rounded, by number of bits."""
    before = Snapshot.of(trainer.module)
    losses = {}
    for bits, target in grids.items():
        project_onto(trainer.module, (name,), Levels({name: target}))
        losses[bits] = trainer.evaluate().loss
        before.restore(trainer.module)
    return losses


def upgrade_path(losses: Mapping[str, Mapping[int, float]], sizes: Mapping[str, int]) -> list[Assignment]:
    """Return assignments from the fewest bits for all to the most, each with one tensor at more bits than the last.

    Args:
        losses: by tensor and number of bits.
        sizes: kept weights by tensor.
    """
    current = {name: min(row) for name, row in losses.items()}
    path = [dict(current)]
    while True:
        steps = [
            ((losses[name][now] - losses[name][more]) / (sizes[name] * (more - now)), name, more)
            for name, now in current.items()
            for more in losses[name]
            if more > now
        ]
        if not steps:
            return path
        _, name, more = max(steps, key=lambda step: (step[0], -step[2]))
        current[name] = more
        path.append(dict(current))


@torch.no_grad()
def drop(trainer: Trainer) -> float:
    """Return how many percentage points of its metric the module loses on the selection data."""
    module = trainer.module.eval()
    before = after = 0.0
    count = 0
    for batch in trainer.held_out():
        rates = _rates(trainer, batch.targets, module(batch.inputs), batch.labels, batch.samples)
        before += rates[0] * batch.samples
        after += rates[1] * batch.samples
        count += batch.samples
    return 100 * (before - after) / max(count, 1)


def _rates(
    trainer: Trainer, originals: Mapping[str, Tensor], found: Mapping[str, Tensor], labels: Tensor | None, count: int
) -> Sequence[float]:
    """Return the metric of both models on a batch of ``count`` samples, 0..1."""
    classes = trainer.objective.classes
    if labels is not None and classes is not None:
        answers = [item[classes].flatten(1).argmax(1) for item in (originals, found)]
        return [float((answer == labels).float().mean()) for answer in answers]
    names, declared = trainer.objective.outputs, trainer.module.graph.output_shapes
    scores = class_outputs({name: originals[name].cpu().numpy() for name in names}, count, declared)
    if scores:
        name = next(iter(scores))
        return 1.0, float((originals[name].flatten(1).argmax(1) == found[name].flatten(1).argmax(1)).float().mean())
    if not names:  # classes or places alone: how many of them are the same
        return 1.0, min(_same(originals[name], found[name]) for name in originals)
    pairs = [(originals[name].flatten().double(), found[name].flatten().double()) for name in names]
    return 1.0, min(float(torch.cosine_similarity(left, right, dim=0)) for left, right in pairs)


def _same(original: Tensor, found: Tensor) -> float:
    """Return the part of the values that are equal; none where there are not equally many."""
    return float((original == found).float().mean()) if original.shape == found.shape else 0.0


def describe_bits(choice: BitChoice, limit: float) -> str:
    """Return what the report says of a choice."""
    counts: dict[int, int] = {}
    for bits in choice.bits.values():
        counts[bits] = counts.get(bits, 0) + 1
    parts = ", ".join(f"{count} tensor{'s' * (count != 1)} of {bits} bits" for bits, count in sorted(counts.items()))
    told = (
        f"Bits were found by measuring: {parts}; rounded so, the model loses {choice.drop:.2f} points of held-out data"
    )
    return f"{told}." if choice.within else f"{told}, more than the {limit:g} that it may; more bits do not lower that."
