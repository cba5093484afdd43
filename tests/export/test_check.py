"""A file takes its place only once it is folded, computes what the module does, and decides as it does."""

import numpy as np
import pytest

from calibration.data import Dataset, Preprocessing
from toolchain.errors import ExportError
from toolchain.export import check, check_export, check_folded, write_model
from toolchain.export.differences import compare_tensors

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[%s, 8] x) => (float[%s, 4] scores, float[%s, 8, 2] map) {
  shape = Constant <value = int64[3] {-1, 8, 2}> ()
  scores = MatMul (x, w)
  wide = MatMul (x, v)
  map = Reshape (wide, shape)
}
"""
SHAPES = {"w": (8, 4), "v": (8, 16)}


@pytest.mark.parametrize(("size", "samples"), [("N", 70), ("16", 64)])
def test_outputs_are_compared_in_numbers_and_class_scores_in_decisions(build, tmp_path, size, samples):
    module = build(TEXT % (size, size, size), SHAPES)
    x = np.random.default_rng(0).standard_normal((70, 8)).astype(np.float32)
    data = Dataset({"x": x}, None, Preprocessing(), "unlabelled", "noise")
    file = tmp_path / "m.onnx"
    file.write_bytes(write_model(module, {}).proto.SerializeToString())
    parity = check_export(file, module, data)
    assert parity.max_abs_error < parity.tolerance
    assert [(item.name, item.samples, item.same_class) for item in parity.outputs] == [
        ("scores", samples, 1.0),
        ("map", 0, None),
    ]
    assert [(item.name, item.op) for item in parity.tensors] == [("scores", "MatMul"), ("map", "Reshape")]


@pytest.mark.parametrize(("size", "samples"), [("N", 4), ("16", 16)])
def test_values_inside_are_compared_on_a_few_samples(build, compress, tmp_path, monkeypatch, size, samples):
    seen = []

    def compare(model, module, batch):
        seen.append(len(batch["x"]))
        return compare_tensors(model, module, batch)

    monkeypatch.setattr(check, "compare_tensors", compare)
    module = build(TEXT % (size, size, size), SHAPES)
    compress(module, 0.5, None)
    x = np.random.default_rng(0).standard_normal((70, 8)).astype(np.float32)
    file = tmp_path / "m.onnx"
    file.write_bytes(write_model(module, {}).proto.SerializeToString())
    parity = check_export(file, module, Dataset({"x": x}, None, Preprocessing(), "unlabelled", "noise"))
    assert seen == [samples]
    assert [item.name for item in parity.tensors] == ["scores", "wide", "map"]


def test_a_file_that_computes_something_else_is_refused(build, tmp_path):
    module, other = (build(TEXT.replace("%s", "N"), SHAPES, seed=seed) for seed in (0, 1))
    file = tmp_path / "m.onnx"
    file.write_bytes(write_model(other, {}).proto.SerializeToString())
    with pytest.raises(ExportError, match="'scores'"):
        check_export(file, module, Dataset({"x": np.ones((4, 8), np.float32)}, None, Preprocessing(), "unlabelled", ""))


def test_nodes_of_the_model_that_the_runtime_does_not_fold_are_no_objection(build, tmp_path):
    text = TEXT.replace("%s", "N").replace("float[N, 8, 2] map)", "float[N, 8, 2] map, int64[A, 1] places)")
    module = build(
        text.replace("shape = ", "found = NonZero (s) places = Transpose (found) shape = "), SHAPES | {"s": (3,)}
    )
    file = tmp_path / "m.onnx"
    file.write_bytes(write_model(module, {}).proto.SerializeToString())
    with pytest.raises(ExportError, match="NonZero"):
        check_folded(file)
    data = Dataset({"x": np.ones((4, 8), np.float32)}, None, Preprocessing(), "unlabelled", "ones")
    assert check_export(file, module, data).max_abs_error < 1e-3


def test_large_inputs_are_compared_a_few_at_a_time(build, tmp_path, monkeypatch):
    sizes = []
    verify = check.verify

    def watched(model, module, batches):
        given = list(batches)
        sizes.extend(len(batch["x"]) for batch in given)
        return verify(model, module, given)

    monkeypatch.setattr(check, "verify", watched)
    monkeypatch.setattr(check, "ELEMENTS", 30)  # of which a sample has 8
    module = build(TEXT.replace("%s", "N"), SHAPES)
    x = np.random.default_rng(0).standard_normal((70, 8)).astype(np.float32)
    file = tmp_path / "m.onnx"
    file.write_bytes(write_model(module, {}).proto.SerializeToString())
    check_export(file, module, Dataset({"x": x}, None, Preprocessing(), "unlabelled", "noise"))
    assert sizes == [3] * check.BATCHES
