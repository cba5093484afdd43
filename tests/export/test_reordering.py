"""Gathers of channels meet and become one; what is computed stays the same."""

import numpy as np
import onnx
import onnx.parser
import pytest

from toolchain.export.builder import Builder
from toolchain.export.gathered import indices
from toolchain.export.reordering import merge_orders
from toolchain.export.sessions import open_session

RNG = np.random.default_rng(0)
BACK = RNG.permutation(8)
OTHER = RNG.permutation(8)
PICKED = np.array([6, 1, 3])
HEAD = '<ir_version: 8, opset_import: ["" : 17]> net (float[N, 8, 6, 6] x, float[N, 8, 6, 6] z) => (float[%s] y) '


def merged(body, result="N, C, H, W", **arrays):
    """Return the operators of the graph after it was merged; it must compute what it computed before."""
    proto = onnx.parser.parse_model(HEAD % result + "{ " + body + " }")
    builder = Builder("_")
    names = {name: indices(builder, array) for name, array in (arrays or {"back": BACK, "picked": PICKED}).items()}
    step = builder.constant(np.array(0.1, np.float32)), builder.constant(np.array(128, np.uint8))
    names |= dict(zip(("step", "zero"), step, strict=True))
    for node in proto.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    nodes = merge_orders(list(proto.graph.node), builder, ["y"])
    feeds = {name: RNG.standard_normal((2, 8, 6, 6)).astype(np.float32) for name in "xz"}
    before = run(proto, proto.graph.node, builder, feeds)
    assert np.array_equal(run(proto, nodes, builder, feeds), before)
    return [node.op_type for node in nodes]


def run(proto, nodes, builder, feeds):
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    model.graph.ClearField("node")
    model.graph.node.extend([*builder.nodes, *nodes])
    model.graph.initializer.extend(builder.initializers)
    onnx.checker.check_model(model)
    return open_session(model, threads=1).run(None, feeds)[0]


def test_two_gathers_in_a_row_become_one():
    assert merged("a = Gather <axis = 1> (x, back) y = Gather <axis = 1> (a, picked)") == ["Gather"]


@pytest.mark.parametrize("op", ["Relu", "Sigmoid", "MaxPool <kernel_shape = [2, 2]>", "GlobalAveragePool"])
def test_a_gather_moves_behind_what_treats_all_channels_alike(op):
    kind = op.split()[0]
    assert merged(f"a = Gather <axis = 1> (x, back) y = {op} (a)") == [kind, "Gather"]
    found = merged(f"a = Gather <axis = 1> (x, back) b = {op} (a) y = Gather <axis = 1> (b, picked)")
    assert found == [kind, "Gather"]


def test_levels_are_gathered_behind_their_rounding():
    body = """
      a = Gather <axis = 1> (x, back)
      q = QuantizeLinear (a, step, zero)
      d = DequantizeLinear (q, step, zero)
      y = Gather <axis = 1> (d, picked)
    """
    assert merged(body) == ["QuantizeLinear", "DequantizeLinear", "Gather"]


def test_who_reads_rounded_values_in_order_finds_their_levels_right_before():
    body = """
      q = QuantizeLinear (x, step, zero)
      g = Gather <axis = 1> (q, back)
      d = DequantizeLinear (g, step, zero)
      y = Softmax <axis = 1> (d)
    """
    assert merged(body) == ["QuantizeLinear", "Gather", "DequantizeLinear", "Softmax"]


def test_a_sum_of_values_in_one_order_stays_in_it_and_others_are_put_in_order_first():
    body = "a = Gather <axis = 1> (x, first) b = Gather <axis = 1> (z, second) s = Add (a, b) y = Relu (s)"
    assert merged(body, first=BACK, second=BACK) == ["Add", "Relu", "Gather"]
    assert merged(body, first=BACK, second=OTHER) == ["Gather", "Gather", "Add", "Relu"]


def test_a_value_that_others_read_in_order_is_there_for_them():
    body = """
      a = Gather <axis = 1> (x, back)
      b = Relu (a)
      c = Gather <axis = 1> (b, back)
      s = Softmax <axis = 1> (b)
      y = Add (c, s)
    """
    assert merged(body) == ["Relu", "Gather", "Gather", "Softmax", "Add"]


def test_gathers_of_the_model_itself_and_along_other_axes_stay():
    rows = "a = Gather <axis = 2> (x, picked) y = Gather <axis = 2> (a, picked)"
    assert merged(rows, picked=np.array([2, 1, 0])) == ["Gather", "Gather"]
    own = "p = Constant <value = int64[2] {1, 0}> () a = Gather <axis = 1> (x, p) y = Gather <axis = 1> (a, back)"
    assert merged(own, back=np.array([1, 0])) == ["Constant", "Gather", "Gather"]


def test_what_a_subgraph_reads_stays():
    body = """
      a = Gather <axis = 1> (x, back)
      b = Relu (a)
      c = Gather <axis = 1> (b, picked)
      yes = Constant <value = bool {1}> ()
      y = If (yes) <then_branch = t () => (float[N, C, H, W] r) { r = Neg (b) },
                    else_branch = e () => (float[N, C, H, W] r2) { r2 = Neg (c) }>
    """
    assert merged(body) == ["Relu", "Gather", "Gather", "Constant", "If"]
