import numpy as np
import onnx.parser
import pytest
import torch

from passes.normalization import reestimate_normalization
from toolchain.graph import load_graph
from toolchain.module import OnnxModule

NORMALISED = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 2, 4] x) => (float[N, 2, 4] y)
  <float[2] s = {1, 1}, float[2] b = {0, 0}, float[2] m = {0, 0}, float[2] v = {1, 1}> {
  y = BatchNormalization(x, s, b, m, v)
}
"""


def test_statistics_become_those_of_all_batches_together():
    module = OnnxModule(load_graph(onnx.parser.parse_model(NORMALISED)))
    x = torch.randn(60, 2, 4, generator=torch.Generator().manual_seed(0)) * 3 + 2
    reestimate_normalization(module, [{"x": part} for part in x.split(20)])
    assert torch.allclose(module.tensor("m"), x.mean((0, 2)), atol=1e-5)
    assert torch.allclose(module.tensor("v"), x.var((0, 2), correction=0), rtol=1e-4)
    normalised = module({"x": x})["y"].detach()
    assert float(normalised.mean()) == pytest.approx(0, abs=1e-5)
    assert float(normalised.var(correction=0)) == pytest.approx(1, abs=1e-3)
    assert not module.training


def test_a_model_without_normalisation_is_left_alone():
    text = """
        <ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) <float[2] b = {1, 2}> { y = Add(x, b) }
    """
    module = OnnxModule(load_graph(onnx.parser.parse_model(text)))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    reestimate_normalization(module, [{"x": np.ones(2, np.float32)}])
    assert list(before) == list(module.state_dict()) != []
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
