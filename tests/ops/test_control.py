import onnx
import pytest
import torch

from toolchain.errors import ModelError
from toolchain.graph import load_graph
from toolchain.module import OnnxModule
from toolchain.ops import control


def test_a_loop_that_nothing_ends_is_refused(monkeypatch):
    monkeypatch.setattr(control, "MAX_TRIPS", 100)
    text = """<ir_version: 10, opset_import: ["" : 21]> net (float[2] start) => (float[2] final) <bool on = {1}>
        { final = Loop (, on, start) <body = step (int64 turn, bool before, float[2] now) => (bool after, float[2] next)
          { after = Identity (before)  next = Neg (now) }> }"""
    with pytest.raises(ModelError, match=r"Loop node 'Loop_0' failed .* has not ended after 100 iterations"):
        OnnxModule(load_graph(onnx.parser.parse_model(text)))({"start": torch.ones(2)})
