import itertools

import numpy as np
import pytest

from calibration.data import Dataset, Preprocessing
from passes.batches import Batches
from toolchain.augmentation import NONE, Augmentation


def make(seed=0, augmentation=NONE):
    x = np.arange(10 * 256, dtype=np.float32).reshape(10, 1, 16, 16)
    data = Dataset({"x": x}, np.arange(10), Preprocessing(), "task", "images")
    return Batches(data, 4, augmentation, np.random.default_rng(seed))


def test_an_epoch_has_every_sample_at_most_once_and_leaves_out_a_rest():
    labels = [batch.labels for batch in itertools.islice(make(), 4)]
    for epoch in (labels[:2], labels[2:]):
        assert len(np.unique(np.concatenate(epoch))) == 8
    assert not np.array_equal(np.concatenate(labels[:2]), np.concatenate(labels[2:]))


@pytest.mark.parametrize("drawn", [0, 1, 2, 5])
@pytest.mark.parametrize("augmentation", [NONE, Augmentation(1), Augmentation(2, flip=True)])
def test_batches_go_on_in_the_midst_of_an_epoch(drawn, augmentation):
    whole = make(augmentation=augmentation)
    for _ in range(drawn):
        next(whole)
    state, random = whole.state(), whole.rng.bit_generator.state
    expected = [next(whole) for _ in range(5)]
    later = make(seed=9, augmentation=augmentation)
    later.rng.bit_generator.state = random
    later.restore(state)
    for batch in expected:
        found = next(later)
        assert np.array_equal(found.labels, batch.labels)
        assert np.array_equal(found.inputs["x"], batch.inputs["x"])
