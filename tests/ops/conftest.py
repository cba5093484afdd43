"""Single nodes and small models, run by ONNX Runtime and by the module."""

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper

from toolchain.graph import load_graph
from toolchain.module import OnnxModule
from toolchain.ops import find

Agree = Callable[..., list[np.ndarray]]


def model_of(node, arrays, constants, opset):
    inputs = {name: array for name, array in arrays.items() if array is not None and name not in constants}
    graph = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in inputs.items()
        ],
        [helper.make_empty_tensor_value_info(name) for name in node.output if name],
        [numpy_helper.from_array(arrays[name], name) for name in constants],
    )
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(node.domain, 1)] if node.domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=8), inputs


def typed(proto, results):
    """Declare the outputs with the types that ONNX Runtime found."""
    for value, result in zip(proto.graph.output, results, strict=True):
        kind = helper.np_dtype_to_tensor_dtype(result.dtype)
        value.CopyFrom(helper.make_tensor_value_info(value.name, kind, [None] * result.ndim))
    return proto


@pytest.fixture
def agree() -> Agree:
    """Return a function that asserts that module and ONNX Runtime give one node the same results, and returns them.

    Inputs are arrays by name, in order, None for one that is left out; those named in ``constants`` are initializers.
    ``outputs`` is how many there are, or their names, ``""`` for one that is left out.
    """

    def check(operator, inputs, *, opset=13, outputs=1, constants=(), domain="", rtol=1e-5, atol=1e-6, **attributes):
        names = [name if array is not None else "" for name, array in inputs.items()]
        made = [f"y{k}" for k in range(outputs)] if isinstance(outputs, int) else outputs
        node = helper.make_node(operator, names, made, domain=domain, **attributes)
        proto, feed = model_of(node, inputs, constants, opset)
        return compare(proto, feed, rtol, atol)

    return check


@pytest.fixture
def agree_on_text() -> Agree:
    """Return a function that asserts that module and ONNX Runtime give a model in ONNX text the same results."""

    def check(text, feed, *, rtol=1e-5, atol=1e-6):
        return compare(onnx.parser.parse_model(text), feed, rtol, atol)

    return check


def compare(proto, feed, rtol, atol):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    expected = onnxruntime.InferenceSession(proto.SerializeToString(), options).run(None, feed)
    graph = load_graph(typed(proto, expected))
    assert all(find(item) for item in graph.nodes), "left to ONNX Runtime"
    module = OnnxModule(graph).eval()
    with torch.no_grad():
        got = [value.numpy() for value in module(feed).values()]
    for result, wanted in zip(got, expected, strict=True):
        assert result.dtype == wanted.dtype
        np.testing.assert_allclose(result, wanted, rtol=rtol, atol=atol)
    return got
