"""A small perceptron with everything that trains it."""

from collections.abc import Callable

import numpy as np
import onnx.parser
import pytest
import torch

from calibration.data import Dataset, Preprocessing
from passes.objective import Objective
from passes.trainer import Trainer
from toolchain.augmentation import NONE
from toolchain.graph import load_graph
from toolchain.module import OnnxModule
from toolchain.progress import NullProgress

PERCEPTRON = """
<ir_version: 8, opset_import: ["" : 17]>
mlp (float[N, 6] x) => (float[N, 3] y) <float[16, 6] w1, float[16] b1, float[3, 16] w2> {
  h = Gemm<transB = 1>(x, w1, b1)
  a = Relu(h)
  y = Gemm<transB = 1>(a, w2)
}
"""


@pytest.fixture
def make_trainer() -> Callable[..., Trainer]:
    return build


@pytest.fixture
def trainer() -> Trainer:
    return build()


@pytest.fixture
def count() -> Callable[[Trainer], int]:
    return lambda trainer: sum(int((trainer.module.tensor(name) != 0).sum()) for name in ("w1", "w2"))


def build(learning_rate=5e-3, batch="N", precision=torch.float32, *, with_class=False, normalised=False):
    text = PERCEPTRON.replace("float[N,", f"float[{batch},")
    if with_class:  # beside the scores, as some exporters have it
        text = text.replace("y) <", "y, int64[N] c) <").replace(
            "a, w2)", "a, w2) c = ArgMax<axis = 1, keepdims = 0>(y)"
        )
    if normalised:
        text = text.replace("(h)", "(n)").replace("a = ", "n = BatchNormalization(h, s, b, m, v) a = ")
        ones, zeros = ("{" + ", ".join(value * 16) + "}" for value in "10")
        statistics = f"float[16] s = {ones}, float[16] b = {zeros}, float[16] m = {zeros}, float[16] v = {ones}"
        text = text.replace("w2> {", f"w2, {statistics}> {{")
    proto = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    for name, shape in {"w1": (16, 6), "b1": (16,), "w2": (3, 16)}.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(rng.normal(0, 0.6, shape).astype(np.float32), name))
    graph = load_graph(proto)
    x = rng.normal(size=(400, 6)).astype(np.float32)
    teacher = OnnxModule(graph).eval()
    with torch.no_grad():
        labels = teacher({"x": x})["y"].argmax(1).numpy().astype(np.int64)
    data = Dataset({"x": x}, labels, Preprocessing(), "task", "random points")
    return Trainer(
        module=OnnxModule(graph),
        teacher=teacher,
        data=data.subset(np.arange(300)),
        selection=data.subset(np.arange(300, 400)),
        objective=Objective(("y",), "y"),
        batch_size=32,
        learning_rate=learning_rate,
        precision=precision,
        augmentation=NONE,
        moves_normalization=True,
        rng=np.random.default_rng(0),
        progress=NullProgress(),
    )
