"""Statistics of layers' inputs, of data that is well behaved and of data that is not."""

import numpy as np
import onnx.parser
import pytest
import torch
from onnx import numpy_helper

from passes.constraints import LevelTarget
from passes.reconstruction import Source, reconstruct
from passes.reconstruction.layers import find_layers
from passes.reconstruction.statistics import DAMPING, Statistics, _definite, collect
from toolchain.errors import DataError
from toolchain.graph import load_graph
from toolchain.module import OnnxModule

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 8] x) => (float[N, 4] y) {
  a = MatMul (x, w)
  b = Div (a, d)
  r = Relu (b)
  y = Gemm (r, v, c)
}
"""


@pytest.fixture
def graph():
    proto, rng = onnx.parser.parse_model(TEXT), np.random.default_rng(0)
    tensors = {name: rng.standard_normal(shape) for name, shape in (("w", (8, 6)), ("v", (6, 4)), ("c", (4,)))}
    tensors["d"] = np.ones(6)
    for name, values in tensors.items():
        proto.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    return load_graph(proto)


def source(values, size=4, **limits):
    return Source(
        lambda: ((len(part), {"x": part}) for part in torch.as_tensor(values).split(size)), len(values), **limits
    )


def inputs(count=64):
    return np.random.default_rng(1).standard_normal((count, 8)).astype(np.float32)


TARGETS = {name: LevelTarget(tuple(range(-7, 8)), None) for name in ("w", "v")}


@pytest.mark.parametrize(
    "covariance",
    [
        torch.zeros(3, 3),
        torch.full((3, 3), 1e-42),
        torch.tensor([[1.0, 1.5, 0.0], [1.5, 1.0, 0.0], [0.0, 0.0, 1.0]]),  # indefinite
        torch.full((3, 3), float("nan")),
        torch.full((3, 3), float("inf")),
        torch.diag(torch.tensor([1e30, 0.0, 1.0])),
    ],
)
def test_any_covariance_gives_a_definite_problem(covariance):
    both = torch.stack([torch.eye(3), covariance])
    damped, factor, _, _ = _definite(both)
    assert torch.isfinite(factor).all()
    assert (torch.linalg.eigvalsh(damped.double())[1] > 0).all()
    assert torch.allclose(damped[0], 1.01 * torch.eye(3))  # what is well behaved is damped as ever


def test_a_layer_whose_sums_overflow_keeps_its_weights_as_the_target():
    rows = torch.full((1, 5, 2), 3e38)
    statistics = Statistics.begin(rows, rows, 3, centered=False)
    statistics.add(rows, rows, None)
    weights = torch.randn(1, 3, 2)
    target, covariance = statistics.problem(weights, centered=False)
    assert torch.equal(target, weights)
    assert torch.equal(covariance[0], torch.eye(2))


def test_a_mean_that_rounding_moves_far_costs_the_covariance_no_digits():
    rows = torch.randn(1, 4096, 3, generator=torch.Generator().manual_seed(0))
    moved = 0.01 * rows + 300
    statistics = Statistics.begin(rows, moved, 2, centered=True)
    statistics.add(rows, moved, None)
    _, covariance = statistics.problem(torch.ones(1, 2, 3), centered=True)
    exact = torch.cov(moved[0].double().T, correction=0)
    damped = exact + DAMPING * exact.diagonal().mean() * torch.eye(3)
    assert torch.allclose(covariance[0].double(), damped, rtol=0.01, atol=1e-7)


def test_time_that_is_over_leaves_one_batch_to_every_go(graph):
    module = OnnxModule(graph).eval()
    layers = find_layers(graph, TARGETS)[0]
    for limits, expected in (({}, 64), ({"seconds": -1.0}, 4)):
        found, seen = collect(module, module, layers, source(inputs(), **limits))
        assert seen == expected
        assert {name: item.count for name, item in found.items()} == {"w": expected, "v": expected}
    assert reconstruct(module, TARGETS, source(inputs(), seconds=-1.0)).samples == 4


def test_a_layer_that_reads_infinite_values_is_rounded_to_nearest_and_named(graph):
    module = OnnxModule(graph).eval()
    with torch.no_grad():
        module.tensor("d")[0] = 0.0
    told = []
    found = reconstruct(module, TARGETS, source(inputs(), tell=told.append))
    assert set(found.errors) == {"w"}
    assert found.others == {"v": "its inputs are not all finite on the calibration data"}
    for name in TARGETS:
        assert torch.equal(module.formats[name].project(module.tensor(name)), module.tensor(name))
    assert told[-1] == 1.0


def test_what_only_the_compressed_model_makes_infinite_counts_as_it_was(graph):
    before, after = OnnxModule(graph).eval(), OnnxModule(graph).eval()
    with torch.no_grad():
        after.tensor("d")[0] = 0.0
    found, _ = collect(before, after, find_layers(graph, TARGETS)[0], source(inputs()))
    assert torch.isfinite(found["v"].yy).all()


def test_infinite_inputs_of_the_model_are_an_error_that_names_them(graph):
    values = inputs()
    values[5, 2] = np.inf
    module = OnnxModule(graph).eval()
    with pytest.raises(DataError, match="input 'x' of the model is NaN or infinite"):
        reconstruct(module, TARGETS, source(values))
