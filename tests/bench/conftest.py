"""Small models to measure, and feeds for them."""

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

MLP = """
<ir_version: 8, opset_import: ["" : 13]>
mlp (float[N,6] x) => (float[N,4] logits)
{
    hidden = Gemm<transB = 1>(x, first_weight)
    active = Relu(hidden)
    logits = Gemm<transB = 1>(active, second_weight)
}
"""


def mlp(path, width=16):
    """Write a perceptron of one hidden layer, and return its path."""
    proto = onnx.parser.parse_model(MLP)
    rng = np.random.default_rng(0)
    for name, shape in (("first_weight", (width, 6)), ("second_weight", (4, width))):
        proto.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name))
    onnx.save(proto, path)
    return path


def write(path, text):
    """Write a model given as text, and return its path."""
    onnx.save(onnx.parser.parse_model(text), path)
    return path


@pytest.fixture
def models(tmp_path):
    return mlp(tmp_path / "original.onnx", 64), mlp(tmp_path / "compressed.onnx", 16)


@pytest.fixture
def unknown_operator(tmp_path):
    return write(
        tmp_path / "unknown.onnx",
        '<ir_version: 8, opset_import: ["" : 13, "com.example" : 1]> '
        "agraph (float[N,6] x) => (float[N,6] y) { y = com.example.Frobnicate (x) }",
    )


@pytest.fixture
def make_model(tmp_path):
    def make(text, name="model"):
        return write(tmp_path / f"{name}.onnx", text)

    return make


@pytest.fixture
def feeds(tmp_path):
    path = tmp_path / "feeds.npz"
    np.savez(path, np.ones((2, 6), np.float32))
    return str(path)
