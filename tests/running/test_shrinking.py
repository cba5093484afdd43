from types import SimpleNamespace

import pytest
import torch
from channel_cases import feed_of, model_of

from toolchain.errors import ModelError
from toolchain.export import KernelChoice
from toolchain.module import OnnxModule
from toolchain.planning.plan import Plan, PruneGroup, PruneStep
from toolchain.running.run import Compression
from toolchain.running.shrinking import remove_dead
from toolchain.structures import UNSTRUCTURED, parse_structure

CONVOLUTIONS = "h = Conv(x, w) r = Relu(h) y = Conv(r, u)"
PRODUCTS = "h = MatMul(x, w) r = Relu(h) [last] y = MatMul(r, u)"


def convolutions():
    return model_of("float[N,4,6,6] x", CONVOLUTIONS, w=(16, 4, 3, 3), u=(3, 16, 1, 1))


def products():
    return model_of("float[N,6] x", PRODUCTS, w=(6, 16), u=(16, 3))


def shrunk(graph, axis, structure=UNSTRUCTURED, kernels=None, left=11):
    """Shrink after the last layer has stopped reading all but the last channels; return the run and what is left."""
    module = OnnxModule(graph).eval()
    with torch.no_grad():
        module.tensor("u").narrow(axis, 0, module.tensor("u").shape[axis] - left).zero_()
    feed = feed_of(graph)
    run = SimpleNamespace(
        trainer=SimpleNamespace(module=module, example=lambda: feed), done=Compression(kernels=kernels or {})
    )
    wanted = module(feed)["y"]
    step = PruneStep((PruneGroup(("w", "u"), 1, 2, structure),), 2)
    remove_dead(Plan((step,)), run)
    small = run.trainer.module
    assert torch.allclose(small(feed)["y"], wanted, atol=1e-5)
    return run.done, {name: tuple(weight.shape) for name, weight in small.weights().items()}


def test_weights_that_go_out_although_pruning_kept_them_are_counted():
    done, shapes = shrunk(products(), axis=0)
    assert shapes == {"w": (6, 11), "u": (11, 3)}
    assert done.dead == {"w": 5 * 6, "u": 0}
    assert [len(gone) for removed in done.removed for gone in removed.values()] == [5]


def test_a_matrix_may_shrink_to_a_single_number():
    graph = model_of("float[N,1] x", PRODUCTS, w=(1, 4), u=(4, 1))
    done, shapes = shrunk(graph, axis=0, left=1)
    assert shapes == {"w": (1, 1), "u": (1, 1)}
    assert done.dead == {"w": 3, "u": 0}


def test_convolutions_keep_channels_in_multiples_of_4():
    done, shapes = shrunk(convolutions(), axis=1)
    assert shapes == {"w": (12, 4, 3, 3), "u": (3, 12, 1, 1)}
    assert done.dead == {"w": 4 * 36, "u": 0}


@pytest.mark.parametrize(
    ("name", "left"), [("channel1", 11), ("channel2", 12), ("channel", 16), ("filter1", 11), ("filter", 16)]
)
def test_where_channels_are_pruned_they_stay_in_multiples_of_that_structure(name, left):
    _, shapes = shrunk(convolutions(), 1, parse_structure(name))
    assert shapes == {"w": (left, 4, 3, 3), "u": (3, left, 1, 1)}


@pytest.mark.parametrize("name", ["1:2", "groups"])
def test_what_a_structure_counts_in_is_not_cut(name):
    done, shapes = shrunk(products(), 0, parse_structure(name))
    assert shapes == {"w": (6, 16), "u": (16, 3)}
    assert (done.dead, done.removed) == ({}, [])


@pytest.mark.parametrize(("kernel", "left"), [("float", 11), ("int8", 11), ("nbits", 16)])
def test_what_a_chosen_kernel_counts_in_is_not_cut(kernel, left):
    _, shapes = shrunk(products(), 0, kernels={"last": KernelChoice(kernel, "")})
    assert shapes == {"w": (6, left), "u": (left, 3)}


def test_a_model_that_cannot_be_traced_stays_as_it_is(monkeypatch):
    def fail(*_):
        raise ModelError("no")

    monkeypatch.setattr("toolchain.running.shrinking.trace", fail)
    done, shapes = shrunk(products(), axis=0)
    assert shapes == {"w": (6, 16), "u": (16, 3)}
    assert not done.removed
