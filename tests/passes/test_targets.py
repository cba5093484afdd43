import itertools

import numpy as np
import pytest
import torch

from calibration.data import Dataset, Preprocessing
from passes import targets
from passes.allowance import Allowance
from passes.batches import Batches
from passes.finetune import FinetuneStage
from passes.targets import tabulate
from passes.training import train
from toolchain.augmentation import NONE, Augmentation


@pytest.fixture
def images():
    x = np.random.default_rng(0).normal(size=(300, 1, 16, 16)).astype(np.float32)
    return Dataset({"x": x}, None, Preprocessing(), "unlabelled", "noise")


def pooled(batch):
    """Return a vector and a map per image, as an original might."""
    (array,) = batch.inputs.values()
    values = torch.from_numpy(array)
    return {"vector": values.mean((1, 2)), "map": values[:, :, ::2, ::2].clone()}


def table(answer, data, augmentation=NONE, seconds=None):
    return tabulate(answer, data, augmentation, seconds, lambda _: None)


@pytest.mark.parametrize("augmentation", [NONE, Augmentation(1), Augmentation(1, flip=True)])
def test_every_variant_of_every_sample_finds_its_own_answer(images, augmentation):
    known = table(pooled, images, augmentation)
    batches = Batches(images, 32, augmentation, np.random.default_rng(3))
    for batch in itertools.islice(batches, 12):
        for name, value in pooled(batch).items():
            assert torch.equal(known.of(batch)[name], value)


def test_a_portion_of_a_batch_finds_its_part(images):
    known = table(pooled, images)
    batch = next(Batches(images, 32, NONE, np.random.default_rng(3)))
    parts = [known.of(part)["vector"] for part in batch.portions(5)]
    assert torch.equal(torch.cat(parts), known.of(batch)["vector"])


def test_a_batch_of_unknown_samples_has_no_answer(images):
    assert table(pooled, images).of(images.batch(np.arange(4))) is None


def test_answers_that_depend_on_the_rest_of_the_batch_are_not_kept(images):
    assert table(lambda batch: {"y": pooled(batch)["vector"] - pooled(batch)["vector"].mean(0)}, images) is None
    assert table(lambda batch: {"y": torch.rand(len(batch), 3)}, images) is None
    assert table(lambda batch: {"y": pooled(batch)["vector"].mean()}, images) is None
    assert table(lambda batch: {"y": torch.full((len(batch), 3), torch.nan)}, images) is None


def test_more_answers_than_memory_is_set_aside_for_are_not_kept(images, monkeypatch):
    monkeypatch.setattr(targets, "TABLE_BYTES", 300 * (16 + 64) * 4)
    assert table(pooled, images) is not None
    assert table(pooled, images, Augmentation(1)) is None


def test_answers_that_would_take_too_long_are_given_up_after_a_few(images):
    asked = []
    assert table(lambda batch: asked.append(len(batch)) or pooled(batch), images, Augmentation(4), seconds=0.0) is None
    assert len(asked) == 2 + targets.TRIED


@pytest.mark.parametrize(
    ("epochs", "augmentation", "kept"),
    [(2, NONE, True), (1, NONE, False), (None, NONE, True), (17, Augmentation(1), False)],
)
def test_answers_are_kept_where_training_is_long_enough(trainer, epochs, augmentation, kept):
    trainer.augmentation = augmentation
    trainer.remember(epochs, None)
    assert (trainer.known is not None) == kept


def test_models_of_a_fixed_batch_ask_every_time(make_trainer):
    trainer = make_trainer(batch="8")
    trainer.remember(100, None)
    assert trainer.known is None


def test_a_random_original_leaves_the_generator_as_it_was(trainer, monkeypatch):
    monkeypatch.setattr(trainer, "_answers", lambda batch: {"y": torch.rand(len(batch), 3)})
    before = torch.get_rng_state()
    trainer.remember(100, None)
    assert torch.equal(torch.get_rng_state(), before)


def test_training_on_known_answers_is_training_on_asked_ones(make_trainer):
    trained = []
    for known in (False, True):
        trainer = make_trainer(learning_rate=5e-3)
        if known:
            trainer.remember(None, None)
        train(trainer, FinetuneStage("finetune", trainer.module), Allowance(steps=20))
        trained.append(trainer.module.tensor("w1").detach().clone())
    assert torch.allclose(*trained, atol=1e-5)
