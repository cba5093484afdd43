"""Real models, where they lie beside the repository: the file survives import, the module agrees with ONNX Runtime."""

from dataclasses import replace
from unittest import mock

import numpy as np
import onnx
import pytest
import torch
from real_models import FILES, bound_of, error_of, feed_of, node_by_node, run_module, session

from toolchain.graph import load_graph
from toolchain.module import OnnxModule
from toolchain.ops import find

real = pytest.mark.skipif(not FILES, reason="the real models are not beside this repository")

# What takes seconds is left to benchmarks/import_zoo.py.
QUICK = [path for path in FILES if path.stem != "candy_style"]


@real
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_untouched_model_is_written_back_bit_for_bit(path):
    assert load_graph(path).proto.SerializeToString() == path.read_bytes()


@real
@pytest.mark.parametrize("path", QUICK, ids=lambda path: path.stem)
def test_the_imported_model_agrees_with_onnx_runtime(path):
    graph = load_graph(path)
    feed = feed_of(path, graph)
    names = [value.name for value in graph.outputs]
    wanted = dict(zip(names, session(str(path)).run(names, feed), strict=True))
    got = run_module(OnnxModule(graph).eval(), feed)
    if any(error_of(got[name], wanted[name]) > bound_of(wanted[name]) for name in names):
        # Rounding has changed levels, or ONNX Runtime is off where values are tiny: then every node must agree.
        assert not [node for node in node_by_node(graph, feed) if not node.agrees]


# At -17 the logistic function is 4e-8, and ONNX Runtime's is off by nearly as much.
TINY = {"x": np.linspace(-18, -16, 50, dtype=np.float32)}


def logistic(function):
    graph = load_graph(
        onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17]> g (float[50] x) => (float[50] y) { y = Sigmoid(x) }'
        )
    )

    def found(node):
        return replace(find(node), function=function)

    with mock.patch("toolchain.execution.program.find", found):
        return node_by_node(graph, TINY)[0]


def test_a_node_agrees_where_onnx_runtime_is_the_one_that_is_off():
    node = logistic(torch.sigmoid)
    assert node.error > node.bound
    assert node.own < node.bound < node.runtime
    assert node.agrees


@pytest.mark.parametrize("wrong", [lambda x: torch.sigmoid(1.01 * x), lambda x: torch.sigmoid(x) * 1.01])
def test_a_node_that_computes_something_else_does_not_agree(wrong):
    assert not logistic(wrong).agrees
