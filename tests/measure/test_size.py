import onnx
import pytest

from toolchain.errors import ModelError
from toolchain.graph import model_files
from toolchain.measure.size import size_section


def test_bytes_and_ratios_of_both_files(make_models):
    original, compressed = make_models(keep=0.1)

    size = size_section(original, compressed)

    assert size["original_bytes"] == original.stat().st_size
    assert size["compressed_bytes"] == compressed.stat().st_size
    assert size["gzip_compressed_bytes"] < size["gzip_original_bytes"]
    assert size["gzip_ratio"] == size["gzip_original_bytes"] / size["gzip_compressed_bytes"]


def test_external_data_count_once(make_models, tmp_path):
    path, _ = make_models()
    outside = tmp_path / "outside.onnx"
    onnx.save(onnx.load(path), outside, save_as_external_data=True, location="outside.bin", size_threshold=0)

    files = model_files(outside)

    assert [file.name for file in files] == ["outside.onnx", "outside.bin"]
    assert size_section(path, outside)["compressed_bytes"] == sum(file.stat().st_size for file in files)


def test_missing_external_data_are_named(make_models, tmp_path):
    path, _ = make_models()
    outside = tmp_path / "outside.onnx"
    onnx.save(onnx.load(path), outside, save_as_external_data=True, location="outside.bin", size_threshold=0)
    (tmp_path / "outside.bin").unlink()

    with pytest.raises(ModelError, match=r"'first_weight'.*'outside\.bin', which is missing"):
        model_files(outside)
