import numpy as np
import onnx
import pytest
from onnx import parser

from calibration.dataset import Dataset, Preprocessing
from toolchain.errors import ExportError
from toolchain.measure.quality import quality_section
from toolchain.measure.session import open_session, run_session


def test_labels_give_top_1_accuracy_over_every_sample(make_models, make_samples):
    paths, data = make_models(), make_samples(70)
    scores = [run_session(open_session(path, threads=1), data.batch(np.arange(70)).inputs)["logits"] for path in paths]
    before, after = (float((array.argmax(1) == data.labels).mean()) for array in scores)

    section = quality_section(*paths, data, threads=1)

    assert (section["metric"], section["samples"], section["data"]) == ("top-1 accuracy", 70, "task")
    assert (section["original"], section["compressed"]) == pytest.approx((before, after))
    assert section["drop"] == pytest.approx(before - after)
    assert section["drop_ci95"][0] <= section["drop"] <= section["drop_ci95"][1]
    assert section["fidelity"]["logits"]["relative_l2"] > 0
    assert section["preprocessing"]["scale"] == 1.0
    for column, total in (("samples", 70), ("original", round(70 * before)), ("compressed", round(70 * after))):
        assert sum(row[column] for row in section["classes"]) == total
    changed = scores[0].argmax(1) != scores[1].argmax(1)
    assert changed[section["worst"][0]["index"]]


def test_without_labels_the_metric_is_agreement_with_the_original(make_models, make_samples):
    section = quality_section(*make_models(), make_samples(70, labels=False, kind="synthetic"), threads=1)

    assert section["metric"] == "agreement with the original"
    assert section["original"] == 1.0
    assert section["compressed"] == section["fidelity"]["logits"]["agreement"] < 1.0
    assert section["data"] == "synthetic"


@pytest.mark.parametrize("batch", [1, 8])
def test_a_fixed_batch_gives_the_figures_of_an_open_one(make_models, make_samples, batch):
    data = make_samples(21)
    expected = quality_section(*make_models("N"), data, threads=1)

    section = quality_section(*make_models(batch), data, threads=1)

    assert section["samples"] == 21
    assert section["compressed"] == expected["compressed"]
    fixed, free = (part["fidelity"]["logits"]["relative_l2"] for part in (section, expected))
    assert fixed == pytest.approx(free, rel=1e-5)


def test_class_scores_may_have_trailing_dimensions_of_one(tmp_path):
    path = tmp_path / "maps.onnx"
    model = '<ir_version: 8, opset_import: ["" : 13]> g (float[N,3,1,1] x) => (float[N,3,1,1] y) { y = Identity(x) }'
    onnx.save(parser.parse_model(model), path)
    data = Dataset({"x": np.eye(3, dtype=np.float32)[..., None, None]}, np.arange(3), Preprocessing(), "task", "test")

    section = quality_section(path, path, data, threads=1)

    assert (section["metric"], section["original"], section["drop"]) == ("top-1 accuracy", 1.0, 0.0)


def test_a_model_without_class_scores_is_judged_by_its_worst_cosine(tmp_path):
    path = tmp_path / "map.onnx"
    model = """<ir_version: 8, opset_import: ["" : 13]>
        g (float[N,3,4] x) => (float[N,3,4] y, float[N,3,4] z) { y = Relu(x) z = Neg(x) }"""
    onnx.save(parser.parse_model(model), path)
    data = Dataset({"x": np.ones((4, 3, 4), np.float32)}, None, Preprocessing(), "unlabelled", "test")

    section = quality_section(path, path, data, threads=1)

    assert section["metric"] == "cosine similarity to the original"
    assert section["compressed"] == pytest.approx(1.0)
    assert set(section["fidelity"]) == {"y", "z"}
    assert section["classes"] == section["worst"] == []


def test_a_model_whose_outputs_are_no_numbers_cannot_be_compared(tmp_path):
    path = tmp_path / "text.onnx"
    model = '<ir_version: 8, opset_import: ["" : 13]> g (float[N] x) => (string[N] y) { y = Cast<to = 8>(x) }'
    onnx.save(parser.parse_model(model), path)
    data = Dataset({"x": np.ones(4, np.float32)}, None, Preprocessing(), "unlabelled", "test")

    with pytest.raises(ExportError, match="none of the outputs y is a tensor of numbers"):
        quality_section(path, path, data, threads=1)


def test_of_several_class_outputs_the_labels_judge_the_named_or_else_the_most_accurate(tmp_path):
    path = tmp_path / "two.onnx"
    model = """<ir_version: 8, opset_import: ["" : 13]>
        g (float[N,3] x) => (float[N,3] wrong, float[N,3] right) { wrong = Neg(x) right = Relu(x) }"""
    onnx.save(parser.parse_model(model), path)
    data = Dataset({"x": np.eye(3, dtype=np.float32)}, np.arange(3), Preprocessing(), "task", "test")

    assert quality_section(path, path, data, threads=1)["original"] == 1.0
    assert quality_section(path, path, data, threads=1, classes="wrong")["original"] == 0.0
