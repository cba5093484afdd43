import numpy as np
import onnx
import pytest
import torch
from channel_cases import feed_of, model_of
from hypothesis import given, settings
from hypothesis import strategies as st

from toolchain.channels import find_channels, trace
from toolchain.channels.modules import dead_channels, shrink_module
from toolchain.module import OnnxModule

IMAGE = "float[N,4,6,6] x"
LENET = """
    h = Conv(x, w, b) p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(h) g = Conv(p, u, c) r = Relu(g) f = Flatten(r)
    d = Gemm<transB=1>(f, v, e) s = Relu(d) y = Gemm<transB=1, alpha=0.5>(s, q, k)
"""
SIZES = {"w": (6, 4, 3, 3), "b": (6,), "u": (8, 6, 1, 1), "c": (8,), "v": (10, 32), "e": (10,), "q": (3, 10), "k": (3,)}
RESIDUAL = """
    h = Conv<pads=[1,1,1,1]>(x, w) n = BatchNormalization(h, a, b, m, s) r = Relu(n)
    g = Conv<pads=[1,1,1,1]>(r, u) j = BatchNormalization(g, c, d, m, s) t = Add(j, r) o = Relu(t)
    z = Conv<group=6, pads=[1,1,1,1]>(o, e) i = Clip(z, lo, hi) k = Concat<axis=1>(i, r)
    l = GlobalAveragePool(k) f = Flatten(l) y = Gemm<transB=1>(f, q, p)
"""
PARTS = {"w": (6, 4, 3, 3), "a": (6,), "b": (6,), "m": (6,), "u": (6, 6, 3, 3), "c": (6,), "d": (6,)}
PARTS |= {"e": (6, 1, 3, 3), "q": (3, 12), "p": (3,)}


def lenet():
    return model_of(IMAGE, LENET, **SIZES)


def residual():
    bounds = {"lo": np.float32(0), "hi": np.float32(6), "s": np.arange(1, 7, dtype=np.float32)}
    return model_of(IMAGE, RESIDUAL, **PARTS, **bounds)


def everything_needed(_, needed):
    return needed


def shrunk(module, stay=everything_needed):
    """Return the module without dead channels, and how many those are by group."""
    feed = feed_of(module.graph)
    channels = find_channels(trace(module, feed))
    dead = dead_channels(module, channels, feed, stay)
    with torch.no_grad():
        for name, bias in dead.biases.items():
            module.tensor(name).copy_(torch.from_numpy(bias))
    return shrink_module(module, channels, dead.channels), {name: len(gone) for name, gone in dead.channels.items()}


def agrees(graph, change, stay=everything_needed):
    """Shrink after a change of the weights and compare; return what was removed."""
    module = OnnxModule(graph).eval()
    with torch.no_grad():
        change(module.weights())
        feed = feed_of(graph, seed=1, batch=3)
        wanted = module(feed)["y"]
        small, removed = shrunk(module, stay)
        got = small(feed)["y"]
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max() + 1e-3))
    onnx.checker.check_model(small.graph.proto)
    return removed


@pytest.mark.parametrize("make", [lenet, residual])
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.sampled_from([0.5, 0.8, 0.95, 0.99]))
def test_a_model_with_random_zeros_computes_the_same_without_its_dead_channels(make, seed, sparsity):
    def prune(weights):
        generator = torch.Generator().manual_seed(seed)
        for weight in weights.values():
            if weight.ndim > 1:
                weight.mul_(torch.rand(weight.shape, generator=generator) >= sparsity)

    agrees(make(), prune)


def test_a_channel_that_nothing_reads_goes_and_so_does_what_only_it_reads():
    def prune(weights):
        weights["q"][:, 4:] = 0  # six hidden units are not read
        weights["v"][:4, 4:] = 0  # the others read one channel: its four pixels

    removed = agrees(lenet(), prune)
    assert removed == {"v": 6, "u": 7}


def test_a_channel_that_is_zero_whatever_the_inputs_are_goes():
    def prune(weights):
        weights["v"][2] = 0
        weights["e"][2] = -0.5  # and Relu makes zero of it

    assert agrees(lenet(), prune) == {"v": 1}


def test_a_constant_channel_is_added_to_the_next_bias():
    def prune(weights):
        weights["v"][2] = 0
        weights["e"][2] = 0.5
        weights["u"][3] = 0
        weights["c"][3] = 2.0

    assert agrees(lenet(), prune) == {"v": 1, "u": 1}


def test_a_constant_stays_where_padding_cuts_it_off_or_no_bias_takes_it():
    def prune(weights):
        weights["w"][2] = 0
        weights["b"][2] = 0.5

    assert agrees(model_of(IMAGE, "h = Conv(x, w, b) y = Conv<pads=[1,1,1,1]>(h, u, c)", **SIZES), prune) == {}
    assert agrees(model_of(IMAGE, "h = Conv(x, w, b) y = Conv(h, u)", **SIZES), prune) == {}


def test_a_bias_that_two_layers_share_takes_no_constant():
    def prune(weights):
        weights["w"][2] = 0

    body = "h = Conv(x, w, b) g = Conv(h, u, c) z = Conv(h, t, c) y = Add(g, z)"
    assert agrees(model_of(IMAGE, body, **SIZES, t=(8, 6, 1, 1)), prune) == {}


def test_a_channel_goes_only_where_all_that_share_it_are_dead():
    def prune(weights):
        weights["w"][1] = 0
        weights["a"][1], weights["b"][1] = 1.0, -100.0  # Relu makes zero of it

    assert agrees(residual(), prune) == {}

    def prune_all(weights):
        prune(weights)
        weights["c"][1], weights["d"][1] = 0, 0  # the sum is zero, and so is what the depthwise convolution makes

    assert agrees(residual(), prune_all) == {"w": 1}


def test_one_channel_of_a_group_stays():
    def prune(weights):
        weights["q"].zero_()

    assert agrees(lenet(), prune) == {"v": 9}


def test_channels_stay_for_a_round_number():
    def prune(weights):
        weights["q"][:, 3:] = 0

    assert agrees(lenet(), prune, lambda group, needed: min(group.count, -(-needed // 4) * 4)) == {"v": 6}


def test_what_reaches_an_output_is_never_removed():
    def prune(weights):
        weights["q"][1] = 0
        weights["k"][1] = 0

    assert agrees(lenet(), prune) == {}
