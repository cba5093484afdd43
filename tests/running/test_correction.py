"""Biases take up what 8-bit activations move the mean outputs of layers by."""

import numpy as np
import onnx.parser
import pytest
import torch
from onnx import numpy_helper

from calibration.observers import make_grid
from toolchain.export import activation_formats
from toolchain.export.runs import rounded_values
from toolchain.formats import Grid, TensorFormat
from toolchain.graph import find_weights, load_graph
from toolchain.module import OnnxModule
from toolchain.running.correction import Correction

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 4, 6, 6] x) => (float[N, 5] y) {
  [first] a = Conv (x, w, b)
  [second] c = Conv (a, v)
  n = BatchNormalization (c, gain, beta, mean, variance)
  r = Relu (n)
  f = Flatten (r)
  [third] z = MatMul (f, u)
  y = Add (z, d)
}
"""
SHAPES = {"w": (6, 4, 3, 3), "b": (6,), "v": (4, 6, 3, 3), "u": (16, 5), "d": (5,)}
SHAPES |= dict.fromkeys(("gain", "beta", "mean", "variance"), (4,))
NODES = ("first", "second", "third")
MEANS = ("a", "c", "z")


@pytest.fixture
def module():
    proto, rng = onnx.parser.parse_model(TEXT), np.random.default_rng(0)
    for name, shape in SHAPES.items():
        values = np.abs(rng.standard_normal(shape)).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(values, name))
    made = OnnxModule(load_graph(proto)).eval()
    with torch.no_grad():
        for name in ("w", "v", "u"):
            assert any(weight.name == name for weight in find_weights(made.graph))
            value = made.tensor(name)
            made.formats[name] = TensorFormat(grid=Grid(tuple(range(-127, 128)), value.abs().max() / 127))
            value.copy_(made.formats[name].project(value))
    return made


def batches():
    rng = np.random.default_rng(1)
    return [{"x": rng.random((8, 4, 6, 6)).astype(np.float32)} for _ in range(2)]


def clipped(module):
    """Return formats that clip a tenth of the range, which moves every mean."""
    names = list(rounded_values(module.graph, dict.fromkeys(NODES, "int8")))
    with torch.no_grad():
        values = module.run(batches()[0], names)
    grids = {name: make_grid(0.0, 0.9 * float(value.max())) for name, value in values.items()}
    return activation_formats(module, dict.fromkeys(NODES, "int8"), grids)


def means(module, formats):
    kept, module.formats = module.formats, module.formats | formats
    with torch.no_grad():
        runs = [module.run(batch, list(MEANS)) for batch in batches()]
    module.formats = kept
    return {name: torch.stack([run[name].transpose(0, 1).flatten(1).mean(1) for run in runs]).mean(0) for name in MEANS}


def test_the_means_are_what_they_were_and_can_be_put_back(module):
    formats = clipped(module)
    names = ("b", "mean", "d")
    before = {name: module.tensor(name).detach().clone() for name in names}
    plain, rounded = means(module, {}), means(module, formats)
    assert all((rounded[name] - plain[name]).abs().max() > 1e-3 * plain[name].abs().max() for name in ("c", "z"))
    correction = Correction(module, batches())
    correction.correct(NODES, formats, seconds=60.0)
    assert set(correction.before) == set(names)
    assert not formats.keys() & module.formats.keys()
    # The bias of a product alone is added by another node: the product's own mean moves only with what is before it.
    corrected = means(module, formats)
    assert (corrected["c"] - module.tensor("mean") - plain["c"] + before["mean"]).abs().max() < 1e-4 * plain["c"].max()
    assert (corrected["z"] + module.tensor("d") - plain["z"] - before["d"]).abs().max() < 1e-4 * plain["z"].max()
    correction.undo()
    assert all(torch.equal(module.tensor(name), before[name]) for name in names)


def test_no_layer_is_begun_when_the_time_is_over(module):
    correction = Correction(module, batches())
    correction.correct(NODES, clipped(module), seconds=-1.0)
    assert not correction.before
