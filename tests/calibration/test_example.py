import numpy as np
import onnx.parser
import pytest

from calibration.example import example_of
from toolchain.graph import load_graph

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[BATCH, 4] x) => (float[BATCH, 4] y) { y = Relu(x) }
"""


@pytest.mark.parametrize(("batch", "rows"), [("N", 2), ("5", 5)])
def test_examples_fit_the_signature(batch, rows):
    found = example_of(load_graph(onnx.parser.parse_model(TEXT.replace("BATCH", batch))))
    assert [(name, array.shape, array.dtype) for name, array in found.items()] == [("x", (rows, 4), np.float32)]
