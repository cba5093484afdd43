"""Calibration, nodes to spare and kernels, decided together."""

import numpy as np
import onnx.parser
import pytest
import torch
from onnx import numpy_helper

from calibration.data import Dataset, Preprocessing
from toolchain.export import sensitivity, verify, write_model
from toolchain.formats import Grid, TensorFormat
from toolchain.graph import find_weights, load_graph
from toolchain.module import OnnxModule
from toolchain.planning.plan import CalibrationOptions, ExportOptions
from toolchain.running import lowering
from toolchain.running.lowering import Watch, lower

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 3, 8, 8] x) => (float[N, 4] y) {
  [first] a = Conv <pads = [1, 1, 1, 1]> (x, w)
  r = Relu (a)
  p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
  [second] c = Conv (p, v)
  f = Flatten (c)
  [head] y = MatMul (f, u)
}
"""
SHAPES = {"w": (8, 3, 3, 3), "v": (8, 8, 3, 3), "u": (32, 4)}
FORCED = ExportOptions(kernel="int8")


@pytest.fixture
def module():
    proto, rng = onnx.parser.parse_model(TEXT), np.random.default_rng(0)
    for name, shape in SHAPES.items():
        proto.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name))
    made = OnnxModule(load_graph(proto)).eval()
    with torch.no_grad():
        for weight in find_weights(made.graph):
            value = made.tensor(weight.name)
            made.formats[weight.name] = TensorFormat(grid=Grid(tuple(range(-127, 128)), value.abs().max() / 127))
            value.copy_(made.formats[weight.name].project(value))
    return made


@pytest.fixture
def data():
    pixels = np.random.default_rng(1).standard_normal((40, 3, 8, 8)).astype(np.float32)
    return Dataset({"x": pixels}, None, Preprocessing(), "unlabelled", "here")


def sample(data):
    return dict(data.batch(np.arange(1)).feeds)


def test_every_rounded_value_has_a_format_and_moved_ones_that_of_their_source(module, data):
    choices = lower(module, data, sample(data), CalibrationOptions(), FORCED).kernels
    assert {name: choice.kernel for name, choice in choices.items()} == dict.fromkeys(
        ("first", "second", "head"), "int8"
    )
    activations = module.formats.keys() - SHAPES.keys()
    assert activations == {"x", "r", "p", "c", "f"}
    assert module.formats["p"].grid is module.formats["r"].grid
    file = write_model(module, dict.fromkeys(choices, "int8")).proto.SerializeToString()
    parity = verify(file, module, [sample(data)])
    assert parity.max_abs_error <= parity.tolerance


@pytest.mark.parametrize(("seconds", "rows"), [(1e-3, 8), (1.0, 3), (60.0, 1)])
def test_fewer_samples_of_a_slow_model_are_run_at_a_time(module, data, monkeypatch, seconds, rows):
    monkeypatch.setattr(lowering, "_seconds", lambda _, batch: seconds * len(batch))
    seen = set()
    run = module.run
    monkeypatch.setattr(module, "run", lambda inputs, names: seen.add(len(inputs["x"])) or run(inputs, names))
    lower(module, data, sample(data), CalibrationOptions(samples=24), ExportOptions())
    assert max(seen) == rows


def test_activations_that_are_to_stay_float_get_no_format(module, data):
    choices = lower(module, data, sample(data), CalibrationOptions(activations="none"), FORCED).kernels
    assert {choice.kernel for choice in choices.values()} == {"float"}
    assert "activations are to stay float" in choices["first"].reason
    assert module.formats.keys() == SHAPES.keys()


def test_a_node_that_hurts_is_float_with_its_reason(module, data):
    scale = torch.tensor([1e4] + [0.02] * 7)  # one loud channel, which nobody reads
    module.formats["w"] = TensorFormat(grid=Grid(tuple(range(-127, 128)), scale, axis=0))
    with torch.no_grad():
        module.tensor("w")[0] *= 1e5
        module.tensor("w").copy_(module.formats["w"].project(module.tensor("w")))
        module.tensor("v")[:, 0] = 0.0
    choices = lower(module, data, sample(data), CalibrationOptions(), FORCED).kernels
    assert choices["second"].kernel == "float"
    assert "8-bit activations alone move the outputs" in choices["second"].reason
    assert choices["head"].kernel == "int8"


def test_nodes_that_there_was_no_time_to_measure_are_reported(module, data, monkeypatch):
    monkeypatch.setattr(lowering, "LOSS_SECONDS", -1.0)
    monkeypatch.setattr(sensitivity, "LIMIT", 1e-9)
    found = lower(module, data, sample(data), CalibrationOptions(), FORCED)
    assert any(
        "There was no time to measure what the 8-bit activations of 3 of 3 nodes" in note for note in found.notes
    )
    assert any("no time to measure" in choice.reason for choice in found.kernels.values())


def test_the_observer_that_changes_the_outputs_least_is_taken_and_named(module, data):
    told = []
    found = lower(module, data, sample(data), CalibrationOptions(), FORCED, Watch(tell=told.append))
    assert found.notes[0].startswith("Ranges of 8-bit activations are those of the observer 'm")
    assert all(f"{name} " in found.notes[0] for name in ("minmax", "percentile", "mse"))
    assert told == sorted(told)
    assert 0 < told[0] < told[-1] < 1


def test_an_observer_that_is_asked_for_is_not_compared(module, data):
    found = lower(module, data, sample(data), CalibrationOptions(observer="percentile"), FORCED)
    assert not any("observer" in note for note in found.notes)


def test_the_default_samples_are_observed_while_there_is_time_and_the_report_says_how_many(module, data, monkeypatch):
    monkeypatch.setattr(lowering, "OBSERVE_SECONDS", 0.0)
    notes = lower(module, data, sample(data), CalibrationOptions(samples=40), FORCED).notes
    assert "There was time to observe 8 of 40 samples." in notes


def test_who_asks_for_more_samples_gets_all_of_them(module, data, monkeypatch):
    monkeypatch.setattr(lowering, "OBSERVE_SECONDS", 0.0)
    many = data.subset(np.resize(np.arange(40), 600))
    notes = lower(module, many, sample(many), CalibrationOptions(samples=600), FORCED).notes
    assert not any("There was time" in note for note in notes)
