import numpy as np
import onnx
import pytest
import torch

from toolchain.errors import ModelError
from toolchain.execution.feeds import take_inputs
from toolchain.graph import load_graph

CPU = torch.device("cpu")
TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 3] image, int64[n] ids, bool flag, string[m] words, float[3] scale) => (float[n, 3] y)
<float[3] scale = {1, 2, 3}> { y = Mul(image, scale) }
"""
GOOD = {
    "image": np.ones((2, 3), np.float32),
    "ids": np.array([1, 2]),
    "flag": np.array(True),
    "words": np.array(["a", "b"], object),
}


@pytest.fixture
def graph():
    return load_graph(onnx.parser.parse_model(TEXT))


def test_arrays_become_tensors_and_strings_stay(graph):
    taken = take_inputs(graph, GOOD, CPU)
    assert torch.equal(taken["image"], torch.ones(2, 3))
    assert taken["words"] is GOOD["words"]


def test_other_widths_and_other_batches_are_taken(graph):
    other = {"image": torch.ones(5, 3, dtype=torch.float64), "ids": torch.ones(5, dtype=torch.int32)}
    assert take_inputs(graph, {**GOOD, **other}, CPU)["image"].dtype == torch.float64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.ones((2, 3), np.int64)}, r"input 'image' is float32\[n, 3\], got int64\[2, 3\]"),
        ({"image": np.ones(3, np.float32)}, r"input 'image' is float32\[n, 3\], got float32\[3\]"),
        ({"ids": np.ones(2, np.float32)}, r"input 'ids' is int64\[n\], got float32\[2\]"),
        ({"flag": np.array(1)}, r"input 'flag' is bool\[\], got int64\[\]"),
        ({"image": [np.ones(3, np.float32)]}, r"input 'image' is float32\[n, 3\], got a list"),
        ({"image": None}, r"input 'image' is float32\[n, 3\], got a NoneType"),
        ({"imag": 1}, "the graph has no input 'imag'"),
        ({"scale": np.ones(3, np.float32)}, "'scale' is a constant of the model, which cannot be fed"),
    ],
)
def test_what_does_not_fit_is_named_with_what_was_expected(graph, change, message):
    with pytest.raises(ModelError, match=message):
        take_inputs(graph, {**GOOD, **change}, CPU)


def test_a_missing_input_gets_the_nearest_name(graph):
    inputs = {("Image" if name == "image" else name): value for name, value in GOOD.items()}
    with pytest.raises(ModelError, match="needs input 'image'") as raised:
        take_inputs(graph, inputs, CPU)
    assert "Image" in raised.value.hint


def test_inputs_without_names_are_refused(graph):
    with pytest.raises(ModelError, match=r"inputs are given by name, \{'image': \.\.\.,"):
        take_inputs(graph, GOOD["image"], CPU)
