import numpy as np
import pytest

from toolchain.errors import ExportError
from toolchain.measure.session import available_cores, open_session, run_session


def test_outputs_come_by_name(make_models):
    session = open_session(make_models()[0], threads=1)

    outputs = run_session(session, {"x": np.ones((2, 6), np.float32)})

    assert {name: array.shape for name, array in outputs.items()} == {"logits": (2, 4)}


def test_a_file_that_is_no_model_is_one_clear_error(tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a model")

    with pytest.raises(ExportError, match=r"cannot load .*broken\.onnx on CPUExecutionProvider"):
        open_session(path)


def test_there_is_at_least_one_core():
    assert available_cores() >= 1
