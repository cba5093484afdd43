"""Old models are raised only as far as the file needs, and only when they stay the same."""

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

from toolchain.errors import ExportError
from toolchain.export.opset import raise_opset
from toolchain.graph import load_graph


def graph(opset: int, body: str = "y = Relu (x)"):
    text = f'<ir_version: 4, opset_import: ["" : {opset}]> net (float[N, 3] x) => (float[N, 3] y) {{ {body} }}'
    return load_graph(onnx.parser.parse_model(text))


def test_a_new_enough_graph_is_returned_as_it_is():
    before = graph(13)
    assert raise_opset(before, 13) is before


@pytest.mark.parametrize(("opset", "needed", "result"), [(9, 7, 11), (11, 13, 13), (7, 7, 11)])
def test_an_old_graph_is_raised_to_what_is_needed(opset, needed, result):
    after = raise_opset(graph(opset), needed)
    assert after.opset == result
    assert after.proto.ir_version >= 6


@pytest.mark.parametrize("kind", [RuntimeError, onnx.version_converter.ConvertError])
def test_what_cannot_be_converted_stays_unless_a_kernel_needs_it(monkeypatch, kind):
    def fail(*_):
        raise kind("no adapter")

    monkeypatch.setattr("onnx.version_converter.convert_version", fail)
    before = graph(9)
    assert raise_opset(before, 7) is before
    with pytest.raises(ExportError, match=r"need opset 13, the model has 9 .*no adapter"):
        raise_opset(before, 13)


def test_domains_that_onnx_does_not_know_do_not_hinder():
    before = graph(9)
    before.proto.opset_import.append(onnx.helper.make_opsetid("com.microsoft.experimental", 1))
    assert raise_opset(before, 13).opset == 13


CONV = """
<ir_version: 6, opset_import: ["" : 11]>
net (float[N, 3, H, W] x) => (float[N, 4, A, B] y) { [n] y = Conv (x, w) }
"""


def convolution(text=CONV):
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(numpy_helper.from_array(np.ones((4, 3, 5, 5), np.float32), "w"))
    return load_graph(proto)


def test_open_sizes_are_large_enough_for_windows():
    assert raise_opset(convolution(), 13).opset == 13


def test_a_model_that_does_not_run_is_a_problem_and_no_crash():
    before = convolution(CONV.replace("float[N, 3, H, W] x", "float[N, 2, H, W] x"))
    with pytest.raises(ExportError, match=r"need opset 13, the model has 11 .*Input channels"):
        raise_opset(before, 13)


def test_a_conversion_that_makes_an_output_nan_is_not_taken(monkeypatch):
    before, root = graph(9), graph(11, "y = Sqrt (x)")
    monkeypatch.setattr("onnx.version_converter.convert_version", lambda *_: root.proto)
    assert raise_opset(before, 7) is before
