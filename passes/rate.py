"""The learning rate: how large a step the user's model bears, found by trying."""

import math
import time

import numpy as np
import torch
from torch import Tensor

from calibration.data import Batch
from passes.allowance import Allowance
from passes.batches import Batches
from passes.gradient import add_gradient, parts_of
from passes.snapshot import Snapshot
from passes.trainer import Trainer
from toolchain.module import OnnxModule

LEAST, MOST = 1e-5, 3e-2
STEPS = 80  # from the least to the most, where there is time for them
LEAST_STEPS = 20
MEMORY = 0.8  # of the running mean of the loss
# Of the way from the original's loss to that of a model that knows nothing. It finds 4.1e-3 for LeNet-5, of which 2e-3
# and less are worse and 8e-3 is no better (246x, 6,000 steps), 1.0e-3 for ResNet-20, whose normalisation is folded, and
# 4.5e-3 for ResNet-32, which keeps it.
HARM = 0.03


def find_learning_rate(trainer: Trainer, allowance: Allowance) -> float | None:
    """Return the peak rate of Adam for this model and these data; None where there is none or no time to find it.

    There is none where the model starts as the original and nothing else judges it, as without labels: its gradient is
    zero, and no rate would lead away from there.

    Range test: from the trained model, whose loss is near its least, the rate grows step by step until the loss has
    gone a few percent of the way to that of a model whose answer is always the same. The test is that of Smith,
    "Cyclical learning rates for training neural networks", WACV 2017, section 3.3; where it ends is ours.

    Near the original's least loss steps are mostly noise, and harm comes of how far they have led at random: by the
    rate times the root of the steps in which it grows by a factor e. A shorter test has fewer of these and would end at
    a larger rate, which is allowed for.

    Args:
        trainer: the models, the data and the loss; they, and what it draws batches with, are left as they were.
        allowance: for the whole range.
    """
    steps = STEPS if allowance.steps is None else min(STEPS, allowance.steps)
    if steps < LEAST_STEPS:
        return None
    before = Snapshot.of(trainer.module)
    try:
        return _largest_harmless(trainer, Allowance(steps, allowance.seconds))
    finally:
        before.restore(trainer.module)
        trainer.module.zero_grad()


def _largest_harmless(trainer: Trainer, allowance: Allowance) -> float | None:
    optimizer = torch.optim.Adam(trainer.module.parameters(), LEAST)
    batches = Batches(trainer.data, trainer.batch_samples, trainer.augmentation, np.random.default_rng(0))
    trainer.module.train(trainer.moves_normalization)
    started, rate = time.monotonic(), LEAST
    first = harm = done = 0.0
    step = 0
    while done < 1:
        rate = LEAST * (MOST / LEAST) ** done
        optimizer.param_groups[0]["lr"] = rate
        batch = next(batches)
        optimizer.zero_grad()
        loss = add_gradient(trainer, batch, 0.0)
        if step == 0 and _is_still(trainer.module):
            return None
        original, ignorant = _bounds(trainer, batch)
        part = (loss - original) / max(ignorant - original, 1e-12)
        first = part if step == 0 else first  # batch statistics alone already answer a little differently
        harm = MEMORY * harm + (1 - MEMORY) * (part - first)
        if not math.isfinite(harm) or harm > HARM:
            break
        optimizer.step()
        step += 1
        done = allowance.done(step, time.monotonic() - started)
        if step == 1 and done > 1 / LEAST_STEPS:
            return None
    whole = step / done if done else STEPS  # steps that the range was to take
    return max(LEAST, rate * math.sqrt(min(1.0, whole / STEPS)))


def _is_still(module: OnnxModule) -> bool:
    """Return whether no parameter has a gradient."""
    return not any(weight.grad is not None and bool(weight.grad.any()) for weight in module.parameters())


def _bounds(trainer: Trainer, batch: Batch) -> tuple[float, float]:
    """Return the loss on a batch of the original, and of a model that gives its mean answer to every sample."""
    parts = parts_of(trainer, batch)
    means = _means([part.targets for part in parts])
    original = ignorant = 0.0
    for part in parts:
        same = {name: mean.expand_as(part.targets[name]) for name, mean in means.items()}
        original += part.share * float(trainer.objective.loss(part.targets, part.targets, part.labels))
        ignorant += part.share * float(trainer.objective.loss({**part.targets, **same}, part.targets, part.labels))
    return original, ignorant


def _means(answers: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean ``[1, ...]`` of every output over all samples; of numbers for a whole batch there is none."""
    found = {}
    for name in answers[0]:
        rows = [answer[name].mean(0, keepdim=True) for answer in answers if answer[name].ndim > 0]
        if rows and len({row.shape for row in rows}) == 1:
            found[name] = torch.cat(rows).mean(0, keepdim=True)
    return found
