import numpy as np
import onnx
import onnx.parser
import pytest

from toolchain.errors import ExportError
from toolchain.measure.session import open_session, run_session


def test_outputs_come_by_name(make_models):
    session = open_session(make_models()[0], threads=1)

    outputs = run_session(session, {"x": np.ones((2, 6), np.float32)})

    assert {name: array.shape for name, array in outputs.items()} == {"logits": (2, 4)}


def test_a_file_that_is_no_model_is_one_clear_error(tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a model")

    with pytest.raises(ExportError, match=r"cannot load .*broken\.onnx on cpu"):
        open_session(path)


def test_a_model_that_does_not_load_names_the_operator(tmp_path):
    path = tmp_path / "unknown.onnx"
    proto = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 13, "com.example" : 1]>
        agraph (float[N] x) => (float[N] y) { y = com.example.Frobnicate (x) }
    """)
    onnx.save(proto, path)

    with pytest.raises(ExportError, match=r"on cpu, at operator com\.example:Frobnicate"):
        open_session(path)


def test_a_provider_that_is_not_installed_is_an_error_that_lists_what_is(make_models):
    with pytest.raises(ExportError, match=r"does not offer NoSuchExecutionProvider, it offers .*CPUExecutionProvider"):
        open_session(make_models()[0], "NoSuchExecutionProvider")


def test_feeds_that_do_not_fit_are_an_error_with_their_shapes(make_models):
    session = open_session(make_models()[0], threads=1)

    with pytest.raises(ExportError, match=r"x\[2, 5\]"):
        run_session(session, {"x": np.ones((2, 5), np.float32)})
