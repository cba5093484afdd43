import sys

import pytest

from calibration.dataset import Preprocessing
from calibration.generators import load_function
from toolchain.errors import DataError

SOURCE = """
import numpy as np
import torch

def dicts():
    for start in (0, 2):
        yield {"x": np.full((2, 3), start, np.float32), "labels": np.array([start, start + 1])}

def pairs():
    return [[torch.eye(2, 3), torch.tensor([1, 0])]]

def named_pairs():
    yield {"x": np.eye(2, 3)}, [0, 1]

def arrays():
    buffer = np.zeros((1, 3), np.float32)
    for value in range(4):
        buffer[:] = value
        yield buffer

def nothing():
    return []

def fails():
    yield np.zeros((1, 3))
    raise KeyError("gone")

def changes_shape():
    yield np.zeros((1, 3))
    yield np.zeros((1, 4))

def changes_names():
    yield {"x": np.zeros((1, 3))}
    yield {"x": np.zeros((1, 3)), "labels": np.zeros(1, int)}

def triples():
    yield 1, 2, 3

def strings():
    yield "abc"

def endless():
    while True:
        yield np.zeros((1, 3))

number = 3
"""


@pytest.fixture
def model(graph_of):
    return graph_of("g (float[N, 3] x) => (float[N, 3] y) { y = Identity(x) }")


@pytest.fixture
def load(tmp_path, monkeypatch, model):
    (tmp_path / "my_batches.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_batches", raising=False)
    yield lambda name: load_function(f"my_batches:{name}", model, Preprocessing()).train
    sys.modules.pop("my_batches", None)


def test_dicts_of_arrays_are_joined_with_their_labels(load):
    data = load("dicts")
    assert data.inputs["x"][:, 0].tolist() == [0, 0, 2, 2]
    assert data.labels.tolist() == [0, 1, 2, 3]
    assert data.source == "my_batches:dicts"


@pytest.mark.parametrize("name", ["pairs", "named_pairs"])
def test_pairs_are_inputs_and_labels_tensors_among_them(load, name):
    data = load(name)
    assert sorted(data.labels.tolist()) == [0, 1]
    assert data.inputs["x"].shape == (2, 3)


def test_a_generator_may_use_its_buffer_again(load):
    data = load("arrays")
    assert data.inputs["x"][:, 0].tolist() == [0, 1, 2, 3]
    assert data.labels is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "yields no batches"),
        ("fails", "failed with KeyError: 'gone'"),
        ("changes_shape", "changes its shape between batches"),
        ("changes_names", "batch 1 holds labels, x, the first x"),
        ("triples", "batch 0 is a tuple of 3"),
        ("strings", "batch 0 is a str, not an array of numbers"),
        ("number", "has no function 'number'"),
        ("dict", "has no function 'dict'"),
    ],
)
def test_what_yields_no_batches_is_refused(load, name, message):
    with pytest.raises(DataError, match=message):
        load(name)


def test_a_missing_function_comes_with_the_nearest(load):
    with pytest.raises(DataError) as caught:
        load("dict")
    assert "did you mean dicts" in caught.value.hint


def test_a_missing_module_is_named(model):
    with pytest.raises(DataError, match="there is no module 'no_such_module'"):
        load_function("no_such_module:f", model, Preprocessing())


def test_the_search_path_is_put_back(load):
    before = list(sys.path)
    load("pairs")
    assert sys.path == before


def test_an_endless_generator_stops_at_the_memory_limit(load, monkeypatch):
    monkeypatch.setattr("os.sysconf", lambda _: 100)  # a machine of 10,000 bytes
    with pytest.raises(DataError, match="more than a third of this machine's memory"):
        load("endless")
