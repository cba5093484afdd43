import onnx
import pytest
import torch

from toolchain.errors import ModelError
from toolchain.graph import load_graph
from toolchain.module import OnnxModule


def model(opsets, body):
    return onnx.parser.parse_model(
        f"<ir_version: 3, opset_import: [{opsets}]> g (float[2] x) => (float[2] y) {{ {body} }}"
    )


def test_an_old_model_of_operators_that_have_not_changed_since_is_imported():
    module = OnnxModule(load_graph(model('"" : 6', "a = Relu(x) y = Neg(a)")))
    assert module({"x": torch.tensor([1.0, -2.0])})["y"].tolist() == [-1.0, 0.0]


def test_an_old_model_of_operators_that_have_changed_is_refused_with_their_names():
    with pytest.raises(ModelError, match=r"ai\.onnx opset 6, in which Add differ from opset 7"):
        load_graph(model('"" : 6', "a = Relu(x) y = Add<broadcast = 1>(a, x)"))


def test_a_model_of_other_domains_alone_needs_no_opset_of_ai_onnx():
    module = OnnxModule(load_graph(model('"com.microsoft" : 1', "y = com.microsoft.Gelu(x)")))
    assert module.graph.opset == 7
