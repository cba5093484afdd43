"""Decisions of the file and of the module are counted sample by sample."""

import numpy as np
import pytest
from onnx import numpy_helper

from calibration.data import Dataset, Preprocessing
from toolchain.export import write_model
from toolchain.export.decisions import Decisions, compare_decisions

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 8] x) => (float[N, 4] scores, float[N] norm) {
  axes = Constant <value = int64[1] {1}> ()
  scores = MatMul (x, w)
  norm = ReduceSum <keepdims = 0> (scores, axes)
}
"""


@pytest.fixture
def module(build):
    return build(TEXT, {"w": (8, 4)})


@pytest.fixture
def data():
    x = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)
    return Dataset({"x": x}, None, Preprocessing(), "unlabelled", "noise")


def exported(module, path, change=None):
    proto = write_model(module, {}).proto
    for tensor in proto.graph.initializer:
        if change is not None and tensor.name == "w":
            tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), "w"))
    path.write_bytes(proto.SerializeToString())
    return path


def test_a_true_copy_decides_as_the_module_does_and_only_class_scores_count(module, data, tmp_path):
    file = exported(module, tmp_path / "m.onnx")
    assert compare_decisions(file, module, data.batches(16)) == {"scores": Decisions(60, 60)}


def test_every_sample_with_another_class_is_counted(module, data, tmp_path):
    file = exported(module, tmp_path / "m.onnx", lambda weight: weight[:, ::-1].copy())
    weight = module.weights()["w"].detach().numpy()
    scores = data.batch(np.arange(60)).feeds["x"] @ weight
    same = int((scores.argmax(1) == scores[:, ::-1].argmax(1)).sum())
    (found,) = compare_decisions(file, module, data.batches(16)).values()
    assert (found.samples, found.same) == (60, same)
    assert found.share == same / 60


def test_no_batch_is_begun_after_the_time(module, data, tmp_path):
    file = exported(module, tmp_path / "m.onnx")
    assert compare_decisions(file, module, data.batches(16), seconds=0.0) == {"scores": Decisions(16, 16)}
