"""Channels all the way from the plan to the file, for every way in which layers share them."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from channel_cases import HEADS, feed_of, ints, model_of
from run_cases import run

from toolchain.export import write_model
from toolchain.running import compression

IMAGE, TOKENS = "float[N,4,6,6] x", "float[N,5,8] x"
VARIANCES = np.linspace(1, 2, 8, dtype=np.float32)
PROJECTIONS = {"wq": (8, 12), "wk": (8, 12), "wv": (8, 12), "wo": (12, 8)}

# Of every group of channels half goes: with multiples of so many, more would be too few and less would not be 2x.
CASES = {
    "residual": (
        4,
        IMAGE,
        "h = Conv(x, w) g = Conv<pads=[1,1,1,1]>(h, v) t = Add(h, g) r = Relu(t) y = Conv(r, u)",
        {"w": (8, 4, 1, 1), "v": (8, 8, 3, 3), "u": (2, 8, 1, 1)},
        {"w": (4, 4, 1, 1), "v": (4, 4, 3, 3), "u": (2, 4, 1, 1)},
    ),
    "concat": (
        4,
        IMAGE,
        "h = Conv(x, w) g = Conv(x, v) c = Concat<axis=1>(h, g) y = Conv(c, u)",
        {"w": (8, 4, 1, 1), "v": (8, 4, 1, 1), "u": (3, 16, 1, 1)},
        {"w": (4, 4, 1, 1), "v": (4, 4, 1, 1), "u": (3, 8, 1, 1)},
    ),
    "depthwise": (
        4,
        IMAGE,
        "h = Conv(x, w) d = Conv<group=8>(h, v, b) r = Relu(d) y = Conv(r, u)",
        {"w": (8, 4, 1, 1), "v": (16, 1, 3, 3), "b": (16,), "u": (3, 16, 1, 1)},
        {"w": (4, 4, 1, 1), "v": (8, 1, 3, 3), "b": (8,), "u": (3, 8, 1, 1)},
    ),
    "normalization": (
        4,
        IMAGE,
        "h = Conv(x, w) n = BatchNormalization(h, a, b, m, s) r = Relu(n) y = Conv(r, u)",
        {"w": (8, 4, 3, 3), "a": (8,), "b": (8,), "m": (8,), "s": VARIANCES, "u": (3, 8, 1, 1)},
        {"w": (4, 4, 3, 3), "a": (4,), "b": (4,), "m": (4,), "s": (4,), "u": (3, 4, 1, 1)},
    ),
    "flatten": (
        4,
        IMAGE,
        "h = Conv(x, w, b) r = Relu(h) f = Flatten(r) y = Gemm<transB=1>(f, u)",
        {"w": (8, 4, 1, 1), "b": (8,), "u": (3, 288)},
        {"w": (4, 4, 1, 1), "b": (4,), "u": (3, 144)},
    ),
    "few large groups": (
        2,
        IMAGE,
        "h = Conv(x, w) g = Conv<group=2>(h, v) y = Conv(g, u)",
        {"w": (8, 4, 1, 1), "v": (8, 4, 3, 3), "u": (3, 8, 1, 1)},
        {"w": (4, 4, 1, 1), "v": (4, 2, 3, 3), "u": (3, 4, 1, 1)},
    ),
    "many small groups": (
        2,
        IMAGE,
        "h = Conv(x, w) g = Conv<group=4>(h, v) y = Conv(g, u)",
        {"w": (8, 4, 1, 1), "v": (12, 2, 3, 3), "u": (3, 12, 1, 1)},
        {"w": (4, 4, 1, 1), "v": (6, 2, 3, 3), "u": (3, 6, 1, 1)},
    ),
    "heads": (
        2,
        TOKENS,
        HEADS,
        {**PROJECTIONS, "s": ints(0, 0, 4, 3), "e": ints(0, 0, 12)},
        {"wq": (8, 6), "wk": (8, 6), "wv": (8, 6), "wo": (6, 8)},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_channels_that_layers_share_are_gone_from_the_file(tmp_path, monkeypatch, case):
    multiple, inputs, body, constants, left = CASES[case]
    graph = model_of(inputs, body, **constants)
    feeds = [feed_of(graph, seed=seed, batch=batch) for seed, batch in ((1, 2), (2, 3))]
    remove_dead = compression.remove_dead

    def watched(plan, passes):
        before = answers(passes.trainer.module.eval(), feeds)
        remove_dead(plan, passes)
        agree(answers(passes.trainer.module, feeds), before)

    monkeypatch.setattr(compression, "remove_dead", watched)
    trainer, _ = run(graph, "", tmp_path, epochs=1, structure=f"channel{multiple}", prune="2x")
    shapes = written_shapes(trainer.module.eval(), feeds)
    assert {name: shapes[name] for name in left} == left


FIRST = np.repeat(np.float32([5, 0.1]), 8 * 36).reshape(16, 4, 3, 3)  # the first 8 of 16 filters are worth more
LAST = FIRST[::-1].copy()
READS_LAST = np.repeat(np.float32([0.1, 50]), 8)[None, :, None, None].repeat(3, axis=0)
CHAIN = "h = Conv(x, w, b) r = Relu(h) y = Conv<pads=[1,1,1,1]>(r, u, c)"
ADDED = "h = Conv(x, w, b) g = Conv(x, v) t = Add(h, g) r = Relu(t) y = Conv<pads=[1,1,1,1]>(r, u, c)"
BIASES = {"b": np.ones(16, np.float32), "c": np.ones(3, np.float32)}


@pytest.mark.parametrize(
    ("structure", "body", "filters", "stay"),
    [
        ("filter", CHAIN, {"w": FIRST}, slice(0, 8)),
        ("channel", CHAIN, {"w": FIRST}, slice(8, 16)),
        ("filter", ADDED, {"w": FIRST, "v": FIRST}, slice(0, 8)),
        ("filter", ADDED, {"w": FIRST, "v": 3 * LAST}, slice(8, 16)),
        ("channel", ADDED, {"w": FIRST, "v": FIRST}, slice(8, 16)),
    ],
)
def test_filters_are_judged_by_what_makes_a_channel_alone_and_leave_as_channels_do(
    tmp_path, structure, body, filters, stay
):
    graph = model_of(IMAGE, body, **filters, **BIASES, u=READS_LAST)
    trainer, _ = run(graph, "", tmp_path, epochs=0, prune="2x", structure=structure)
    written_shapes(trainer.module.eval(), [feed_of(graph, seed=1, batch=3)])
    assert trainer.module.tensor("u").shape == (3, 8, 1, 1)
    for name, weight in filters.items():
        np.testing.assert_array_equal(trainer.module.tensor(name).detach(), weight[stay])


def written_shapes(module, feeds):
    """Write the model, check that ONNX Runtime computes what the module does, and return the shapes by name."""
    written = write_model(module, {}).proto
    onnx.checker.check_model(written)
    session = onnxruntime.InferenceSession(written.SerializeToString())
    agree([session.run(["y"], feed)[0] for feed in feeds], answers(module, feeds))
    return {item.name: tuple(item.dims) for item in written.graph.initializer}


def answers(module, feeds):
    with torch.no_grad():
        return [module(feed)["y"].numpy() for feed in feeds]


def agree(found, wanted):
    for got, expected in zip(found, wanted, strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
