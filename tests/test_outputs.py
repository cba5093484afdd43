import os
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from toolchain.errors import ExportError, ModelError
from toolchain.outputs import check_output, default_output, default_report


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"model")
    return path


def test_results_go_beside_the_model():
    output = default_output(Path("nets/model.onnx"))
    assert output == Path("nets/model.compressed.onnx")
    assert default_report(output) == Path("nets/model.compressed-report")


def test_a_fresh_output_and_a_report_folder_yet_to_be_made_are_fine_and_nothing_is_left(model, tmp_path):
    check_output(model, tmp_path / "small.onnx", tmp_path / "deep" / "report")
    assert list(tmp_path.iterdir()) == [model]


def test_the_input_is_never_the_output_under_any_name(model, tmp_path):
    alias = tmp_path / "alias.onnx"
    alias.symlink_to(model)
    for output in (model, tmp_path / "." / "model.onnx", alias):
        with pytest.raises(ExportError, match="is the input itself"):
            check_output(model, output, None)


def test_a_missing_model_is_said_first(tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        check_output(tmp_path / "none" / "model.onnx", tmp_path / "none" / "small.onnx", None)


def test_the_output_must_be_a_file_in_a_folder_that_exists(model, tmp_path):
    with pytest.raises(ExportError, match="is a folder"):
        check_output(model, tmp_path, None)
    with pytest.raises(ExportError, match="does not exist") as caught:
        check_output(model, tmp_path / "none" / "small.onnx", None)
    assert "mkdir -p" in caught.value.hint


def test_the_report_must_not_be_a_file(model, tmp_path):
    with pytest.raises(ExportError, match=r"the report folder .* is a file"):
        check_output(model, tmp_path / "small.onnx", model)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that nobody can write to")
def test_a_folder_that_cannot_be_written_is_said_before_the_work(model, tmp_path):
    with pytest.raises(ExportError, match="the output folder /proc cannot be written"):
        check_output(model, Path("/proc/small.onnx"), None)
    with pytest.raises(ExportError, match="the report folder /proc cannot be written"):
        check_output(model, tmp_path / "small.onnx", Path("/proc/report"))


def test_the_external_data_of_the_model_are_never_written(tmp_path):
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 2] x) => (float[N, 2] y) { y = MatMul(x, w) }'
    )
    proto.graph.initializer.append(numpy_helper.from_array(np.eye(2, dtype=np.float32), "w"))
    model = tmp_path / "model.onnx"
    onnx.save(proto, model, save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(ExportError, match="holds weights of the input"):
        check_output(model, tmp_path / "weights.bin", None)
    (tmp_path / "old.onnx").write_bytes(b"an earlier result")
    check_output(model, tmp_path / "old.onnx", None)


def test_the_recipe_and_the_data_are_never_written(tmp_path):
    model, recipe = tmp_path / "model.onnx", tmp_path / "recipe.toml"
    onnx.save(
        onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) { y = Relu(x) }'
        ),
        model,
    )
    recipe.write_text('prune = "2x"')
    with pytest.raises(ExportError, match="is the recipe or the data"):
        check_output(model, recipe, None, [Path("package.module:function"), recipe])


def test_a_device_is_never_replaced_by_a_file(tmp_path):
    with pytest.raises(ExportError, match="device or a pipe"):
        check_output(tmp_path / "model.onnx", Path(os.devnull), None, ())


def test_an_output_without_a_name_is_refused():
    with pytest.raises(ExportError, match="no file name"):
        default_report(Path())
