"""What is left, and what is said, where the whole job is interrupted, overflows or is given what it cannot use."""

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from pipeline_cases import TWO_WAY, write

from calibration.data import Preprocessing
from toolchain import compress
from toolchain.errors import DataError, ExportError, ModelError, RecipeError, TrainingError
from toolchain.progress import NullProgress


class Interrupt(NullProgress):
    """Presses Ctrl-C when a phase begins."""

    def __init__(self, name):
        self.name = name

    def phase(self, name, weight=None, done=0.0):  # noqa: ARG002 - Progress's signature
        if name == self.name:
            raise KeyboardInterrupt


@pytest.mark.parametrize("phase", ["load", "prune", "export and verify", "measure"])
def test_an_interrupt_leaves_no_half_written_file(model, data, tmp_path, phase):
    before = set(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        compress(model, prune="4x", data=data, epochs=2, output=tmp_path / "small.onnx", progress=Interrupt(phase))
    made = set(tmp_path.iterdir()) - before
    assert made <= {tmp_path / "small.onnx", tmp_path / "small.checkpoint.safetensors"}
    for path in made & {tmp_path / "small.onnx"}:
        onnx.checker.check_model(onnx.load(path))


def test_what_an_earlier_phase_reached_is_rescued_when_a_later_one_overflows(model, data, tmp_path, monkeypatch):
    def overflow(*_):
        raise TrainingError("overflow", hint="lower it")

    monkeypatch.setattr("toolchain.running.lowering.choose_kernels", overflow)
    with pytest.raises(TrainingError, match="overflow") as caught:
        compress(model, prune="2x", quant="4bit", data=data, epochs=2, output=tmp_path / "small.onnx")
    assert "small.last-good.onnx" in caught.value.hint
    onnx.checker.check_model(onnx.load(tmp_path / "small.last-good.onnx"))
    assert not (tmp_path / "small.onnx").exists()


class TestBadInput:
    """Every error names what is wrong, and leaves no file."""

    @pytest.fixture(autouse=True)
    def nothing_is_left(self, tmp_path, model, data):  # noqa: ARG002 - they exist before the call
        before = set(tmp_path.rglob("*"))
        self.ignored: set[Path] = set()
        yield
        assert set(tmp_path.rglob("*")) - before <= self.ignored

    def test_nothing_to_prune(self, tmp_path):
        path = tmp_path / "relu.onnx"
        text = '<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) { y = Relu(x) }'
        onnx.save(onnx.parser.parse_model(text), path)
        self.ignored.add(path)
        with pytest.raises(RecipeError, match="nothing to prune"):
            compress(path, prune="2x")

    def test_an_unreachable_ratio_says_the_largest(self, model):
        with pytest.raises(RecipeError, match="each of the 2 tensors keeps at least one") as caught:
            compress(model, prune="400x")
        assert "292.00x" in caught.value.hint

    def test_data_of_the_wrong_shape(self, model, tmp_path):
        path = tmp_path / "wrong.npz"
        np.savez(path, x_train=np.zeros((9, 3, 7, 7), np.float32))
        self.ignored.add(path)
        with pytest.raises(DataError, match="image"):
            compress(model, prune="2x", data=str(path))

    def test_labels_out_of_range(self, model, tmp_path):
        path = tmp_path / "labels.npz"
        np.savez(path, x_train=np.arange(9 * 64, dtype=np.float32).reshape(9, 1, 8, 8), y_train=np.arange(9))
        self.ignored.add(path)
        with pytest.raises(DataError, match="label"):
            compress(model, prune="2x", data=str(path))

    def test_data_of_one_value(self, model, tmp_path):
        path = tmp_path / "zeros.npz"
        np.savez(path, image=np.zeros((9, 1, 8, 8), np.float32))
        self.ignored.add(path)
        with pytest.raises(DataError, match="nothing varies over its 9 samples: input 'image'"):
            compress(model, quant="8bit", data=str(path), epochs=0)

    def test_an_output_folder_that_does_not_exist_is_said_before_the_work(self, model, tmp_path):
        with pytest.raises(ExportError, match="does not exist"):
            compress(model, prune="2x", output=tmp_path / "no" / "small.onnx")

    def test_the_output_is_never_the_input(self, model):
        with pytest.raises(ExportError, match="is the input itself"):
            compress(model, prune="2x", output=model)

    def test_a_model_without_float_outputs_cannot_be_trained(self, tmp_path):
        path = tmp_path / "classes.onnx"
        text = TWO_WAY.replace("float[N, 5] sum, float[N, 3, 4] words", "int64[N, 5] best").replace(
            "sum = MatMul(left, w)", "s = MatMul(left, w) best = ArgMax<axis = 1>(s)"
        )
        write(text, path)
        self.ignored.add(path)
        with pytest.raises(ModelError, match="best is a float tensor"):
            compress(path, prune="2x")

    def test_values_that_overflow_in_training(self, tmp_path):
        model, data = write(TWO_WAY, tmp_path / "two.onnx"), tmp_path / "d.npz"
        np.savez(data, left=np.ones((80, 6), np.float32) + np.eye(80, 6), ids=np.zeros((80, 3), np.int64))
        self.ignored |= {model, data}
        with pytest.raises(TrainingError, match=r"phase 'prune' at step \d+") as caught:
            compress(model, prune="2x", data=str(data), preprocessing=Preprocessing(scale=1e30), epochs=3)
        assert "--scale" in caught.value.hint
