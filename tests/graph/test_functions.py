import time

import numpy as np
import onnx
import pytest

from toolchain.errors import ModelError
from toolchain.graph import load_graph
from toolchain.graph.functions import check_calls, function_key
from toolchain.module import OnnxModule

HEAD = '<ir_version: 10, opset_import: ["" : 21, "local" : 1]> net (float[2] x) => (float[2] y) { y = local.f0 (x) }'
DOMAIN = '<domain: "local", opset_import: ["" : 21, "local" : 1]>'


def model_of(*functions):
    return onnx.parser.parse_model("\n".join([HEAD, *(f"{DOMAIN} {function}" for function in functions)]))


def chain(length, calls):
    """Functions that each call the next one so many times."""
    steps = [f"v{k + 1} = local.f{{next}} (v{k})" for k in range(calls)]
    body = "\n".join(steps).replace(f"v{calls} =", "b =").replace("(v0)", "(a)")
    functions = [f"f{k} (a) => (b) {{ {body.replace('{next}', str(k + 1))} }}" for k in range(length)]
    return model_of(*functions, f"f{length} (a) => (b) {{ b = Neg (a) }}")


@pytest.mark.parametrize(
    ("functions", "circle"),
    [
        (["f0 (a) => (b) { b = local.f0 (a) }"], "f0 -> f0"),
        (["f0 (a) => (b) { b = local.f1 (a) }", "f1 (a) => (b) { b = local.f0 (a) }"], "f0 -> f1 -> f0"),
    ],
    ids=["directly", "through another"],
)
def test_a_function_that_calls_itself_is_refused(functions, circle):
    proto = model_of(*functions)
    with pytest.raises(ModelError, match=f"function 'f0' calls itself, directly or through others: {circle}"):
        check_calls(proto.graph.node, {function_key(function): function for function in proto.functions})
    with pytest.raises(ModelError, match="f0"):  # new versions of onnx find it first
        load_graph(proto)


def test_calls_that_double_at_every_level_are_counted_before_they_are_made():
    started = time.monotonic()
    with pytest.raises(ModelError, match=r"function 'f0' that makes \['y'\] stands for more nodes"):
        load_graph(chain(40, 2))
    assert time.monotonic() - started < 5


def test_calls_that_are_nested_too_deep_are_refused_whatever_is_called_first():
    deep = chain(100, 1)
    with pytest.raises(ModelError, match="calls others, 64 deep"):
        load_graph(deep)
    for level in range(99, 0, -1):
        deep.graph.node.insert(0, onnx.helper.make_node(f"f{level}", ["x"], [f"unused{level}"], domain="local"))
    with pytest.raises(ModelError, match="calls others, 64 deep"):
        load_graph(deep)


def test_a_function_with_a_node_without_outputs_is_instantiated():
    proto = chain(1, 1)
    proto.functions[1].node.append(onnx.helper.make_node("Neg", ["a"], []))
    proto.functions[1].node[1].domain = "nowhere"
    proto.opset_import.append(onnx.helper.make_opsetid("nowhere", 1))
    proto.functions[1].opset_import.append(onnx.helper.make_opsetid("nowhere", 1))
    assert [node.op for node in load_graph(proto).nodes] == ["Neg", "Neg"]


def test_a_function_that_is_called_many_times_at_many_levels_is_instantiated():
    graph = load_graph(chain(8, 2))
    assert [node.op for node in graph.nodes] == ["Neg"] * 2**8


@pytest.mark.parametrize("name", ["n/t", "n/u", "local.f0/c"], ids=["value", "value of a subgraph", "constant"])
@pytest.mark.parametrize("weights", ["", "<float[2] v = {10, 20}>"], ids=["made by a node", "initializer"])
def test_values_inside_a_call_do_not_take_the_names_of_others(name, weights):
    first = "" if weights else "v = Exp (x)"
    proto = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["" : 21, "local" : 1]>
        net (float[2] x) => (float[2] y, float[2] z, float[2] w) {weights}
        {{ {first} [n] y = local.f0 (v) [m] z = local.f0 (x) w = Identity (v) }}
        {DOMAIN} f0 (a) => (b) {{
            c = Constant <value_floats = [1.0, 2.0]> () t = Add (a, c) r = ReduceMax <keepdims = 0> (t)
            yes = Cast <to = 9> (r) s = If (yes) <
                then_branch = p () => (float[2] o) {{ u = Neg (t) o = Add (u, a) }},
                else_branch = q () => (float[2] o) {{ o = Identity (t) }}
            > b = Add (s, t)
        }}"""
    )
    x = {"x": np.array([1, -2], np.float32)}
    wanted = OnnxModule(load_graph(proto))(x)
    for node in proto.graph.node:
        node.input[:] = [name if value == "v" else value for value in node.input]
        node.output[:] = [name if value == "v" else value for value in node.output]
    for tensor in proto.graph.initializer:
        tensor.name = name
    got = OnnxModule(load_graph(proto))(x)
    for output in wanted:
        assert (got[output] == wanted[output]).all()
