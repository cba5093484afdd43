import numpy as np
import onnx.parser
import pytest
import torch

from passes.constraints import Budget, TopK
from toolchain.graph import load_graph
from toolchain.graph.layout import Layout
from toolchain.module import OnnxModule
from toolchain.running.allocation import GATHERING, balanced_costs, bit_costs, count_uses, weight_costs
from toolchain.structures import GROUPS, UNSTRUCTURED

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
network (float[N, 3, 8, 8] x, float[5, N, 4] s) => (float[N, 6] y, float[N, 12, 4, 4] z, float[5, 1, N, 7] h)
  <int64[2] ends = {0, 2}, float[6, 3, 3, 3] conv, float[6, 2, 2, 2] up, float[96, 6] gemm, float[12, 12] mul,
   float[1, 21, 4] gru, float[1, 21, 7] recurrent> {
  c = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(x, conv)
  flat = Flatten(c)
  y = Gemm(flat, gemm)
  u = ConvTranspose<group = 2, strides = [1, 1]>(c, up)
  twice = Concat<axis = 1>(c, c)
  rows = Transpose<perm = [0, 2, 3, 1]>(twice)
  once = MatMul(rows, mul)
  again = MatMul(once, mul)
  z = Transpose<perm = [0, 3, 1, 2]>(again)
  h = GRU<hidden_size = 7>(s, gru, recurrent)
}
"""
USES = {"conv": 16.0, "gemm": 1.0, "up": 16.0, "mul": 32.0, "gru": 5.0, "recurrent": 5.0}
SAMPLE = {"x": np.ones((1, 3, 8, 8), np.float32), "s": np.ones((5, 1, 4), np.float32)}


@pytest.fixture
def module():
    proto = onnx.parser.parse_model(TEXT)
    rng = np.random.default_rng(0)
    for info in proto.graph.value_info:
        values = rng.standard_normal([dim.dim_value for dim in info.type.tensor_type.shape.dim])
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), info.name))
    del proto.graph.value_info[:]
    return OnnxModule(load_graph(proto)).eval()


def test_a_weight_costs_as_many_products_as_it_takes_part_in_over_all_its_nodes(module):
    assert count_uses(module, SAMPLE) == USES
    assert weight_costs(module, SAMPLE, "flops", 1) == USES


def test_weights_inside_a_branch_are_taken_to_be_used_as_often_as_the_others_on_average():
    branches = [
        f"""{branch}_branch = {branch} () => (float[8, 6] {branch}_z) {{
          {branch}_z = MatMul(u, inside)
        }}"""
        for branch in ("then", "else")
    ]
    proto = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        network (float[8, 4] x, bool c) => (float[8, 6] z)
          <float[4, 6] outside = {{{", ".join("1" * 24)}}}, float[6, 6] inside = {{{", ".join("1" * 36)}}}> {{
          u = MatMul(x, outside)
          z = If<{", ".join(branches)}>(c)
        }}
    """)
    sample = {"x": np.ones((8, 4), np.float32), "c": np.array(True)}
    assert count_uses(OnnxModule(load_graph(proto)).eval(), sample) == {"outside": 8.0, "inside": 8.0}


def test_milliseconds_are_those_of_the_layer_over_its_weights(module, monkeypatch):
    took = {name: USES[name] * module.tensor(name).numel() * 1e-3 for name in USES if name != "gru"}
    monkeypatch.setattr("toolchain.running.allocation.time_dense", lambda *_: took)
    costs = weight_costs(module, SAMPLE, "ms", 1)
    assert costs == pytest.approx({name: count * 1e-3 for name, count in USES.items()})  # gru at the rate of the rest


def test_every_layer_is_timed_in_the_runtime(module):
    costs = weight_costs(module, SAMPLE, "ms", 1)
    assert costs.keys() == USES.keys()
    assert min(costs.values()) > 0


def test_a_kept_weight_takes_the_bits_of_its_value_and_of_its_place():
    layouts = {"single": Layout((64, 64), 0, 1), "coded": Layout((64, 64), 0, 1), "wide": Layout((64, 64), 0, 1)}
    weights = {name: torch.randn(64, 64, generator=torch.Generator().manual_seed(0)) for name in layouts}
    budgets = (Budget(("single",), 256, UNSTRUCTURED), Budget(("coded",), 2048), Budget(("wide",), 1024, GROUPS))
    costs = bit_costs(weights, budgets, layouts, {"coded": 2})
    assert costs == pytest.approx({"single": 32 + np.log2(15), "coded": 2.0, "wide": 32 + np.log2(3) / 1024})


def products_left(weights, budget, uses, costs):
    """Return the part of the products that stays where tensors are compared by these costs."""
    layouts = dict.fromkeys(weights, Layout((256, 256), 0, 1))
    fitted = TopK((budget,), "lamp", layouts, costs).fit(weights, {}, {})
    products = {name: uses[name] * int(fitted[name].mask.sum()) for name in weights}
    return sum(products.values()) / sum(uses[name] * weights[name].numel() for name in weights)


def test_products_become_fewer_by_a_quarter_more_than_weights_and_no_fewer_than_needed():
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(256, 256, generator=generator) for name in ("often", "once")}
    weights["once"][:, 32:] *= 0.6  # little is lost there
    layouts, budget = dict.fromkeys(weights, Layout((256, 256), 0, 1)), Budget(("often", "once"), 32768, GROUPS)

    uses = {"often": 16.0, "once": 1.0}
    left = [products_left(weights, budget, uses, costs) for costs in ({}, uses)]
    costs = balanced_costs(weights, (budget,), layouts, uses)
    assert left[1] < 0.15 < products_left(weights, budget, uses, costs) <= 0.25 / GATHERING < left[0]
    assert sum(65536 * cost for cost in costs.values()) == pytest.approx(131072)

    few = Budget(budget.names, 8192, GROUPS)  # no part brings products down to that: what is kept at least is too much
    least = products_left(weights, few, uses, uses)
    found = products_left(weights, few, uses, balanced_costs(weights, (few,), layouts, uses))
    assert 1 / 16 / GATHERING < found == least

    uses = {"often": 1.0, "once": 16.0}  # where weights alone leave few products, these need no price
    assert balanced_costs(weights, (budget,), layouts, uses) == {"often": 1.0, "once": 1.0}
