import sys
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from calibration.data import Preprocessing, load_data
from toolchain import demo
from toolchain.errors import ExportError, ToolchainError
from toolchain.graph import load_graph
from toolchain.progress import NullProgress


@dataclass
class Watcher:
    """Remembers what it is told."""

    done: list

    def phase(self, name, weight=None, done=0.0):
        pass

    def update(self, done, figures):
        self.done.append((done, sorted(figures)))

    def note(self, text):
        pass


@pytest.fixture(scope="module")
def digits():
    return demo.load_digits()


def test_the_digits_are_real_images_split_without_overlap(digits):
    assert digits.x_train.shape == (1437, 1, 8, 8)
    assert digits.x_test.shape == (360, 1, 8, 8)
    assert digits.x_train.dtype == np.uint8
    assert digits.x_train.max() == demo.WHITE
    assert set(digits.y_test) == set(range(10))


def test_a_few_epochs_teach_the_network_and_onnx_runtime_agrees(digits):
    watcher = Watcher([])
    proto = demo.train_digits(digits, 3, watcher)
    onnx.checker.check_model(proto, full_check=True)
    session = ort.InferenceSession(proto.SerializeToString())
    (logits,) = session.run(None, {"image": digits.x_test.astype(np.float32) / demo.WHITE})
    assert (logits.argmax(1) == digits.y_test).mean() > 0.9
    assert watcher.done[-1] == (1.0, ["loss"])


def test_the_start_is_the_same_every_time_and_normalises_nothing():
    first, again = (demo.initial_network(torch.Generator().manual_seed(0)) for _ in range(2))
    assert first == again
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in first.graph.initializer}
    assert arrays["bn1_var"].tolist() == arrays["bn1_scale"].tolist() == [1.0] * 16
    assert arrays["fc1_weight"].std() == pytest.approx((2 / 256) ** 0.5, rel=0.05)
    assert 10_000 < sum(array.size for array in arrays.values()) < 50_000


def test_the_demo_saves_model_and_data_and_asks_for_36x_and_2bit(monkeypatch, tmp_path):
    asked = {}
    monkeypatch.setattr(demo, "TRAINING_EPOCHS", 1)
    monkeypatch.setattr(demo, "compress", lambda model, **options: asked.update(options, model=model))
    folder = tmp_path / "a" / "demo"
    demo.run_demo(folder, NullProgress())
    assert (asked["prune"], asked["quant"]) == ("36x", "2bit")
    assert asked["report"].parent == folder
    data = load_data(asked["data"], load_graph(asked["model"]), Preprocessing(scale=1 / demo.WHITE))
    assert (len(data.train), len(data.test)) == (1437, 360)


def test_a_folder_that_cannot_be_made_is_said_before_training(monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "train_digits", None)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ExportError, match="cannot write to"):
        demo.run_demo(tmp_path / "file", NullProgress())


def test_without_scikit_learn_the_hint_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ToolchainError, match="needs scikit-learn") as caught:
        demo.load_digits()
    assert "onnx-compress[demo]" in caught.value.hint
