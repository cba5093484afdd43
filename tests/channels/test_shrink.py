import numpy as np
import onnx
import pytest
from channel_cases import BOTH, channels_of, check, feed_of, ints, model_of, random_half, run, zeroed
from onnx import numpy_helper

from toolchain.channels import find_channels, remove_channels, trace
from toolchain.errors import ModelError
from toolchain.graph import load_graph
from toolchain.graph.constants import add_initializers
from toolchain.module import OnnxModule

IMAGE = "float[N,4,5,5] x"
CHAIN = "h = Conv(x, w, b) r = Relu(h) y = Conv(r, v)"
SHAPES = {"w": (6, 4, 1, 1), "b": (6,), "v": (3, 6, 1, 1)}


def initializers(graph):
    return {tensor.name: tensor for tensor in graph.proto.graph.initializer}


def test_what_no_removed_channel_is_in_stays_bit_for_bit():
    graph = model_of(IMAGE, f"{CHAIN.replace('y =', 'g =')} y = Conv(g, u)", **SHAPES, u=(2, 3, 1, 1))
    graph.proto.metadata_props.add(key="k", value="v")
    small = remove_channels(graph, channels_of(graph), {"w": [1, 4]})
    assert small.initializers.shape("w") == (4, 4, 1, 1)
    np.testing.assert_array_equal(small.initializers["b"], graph.initializers["b"][[0, 2, 3, 5]])
    np.testing.assert_array_equal(small.initializers["v"], graph.initializers["v"][:, [0, 2, 3, 5]])
    assert initializers(small)["u"] == initializers(graph)["u"]
    assert list(small.proto.graph.node) == list(graph.proto.graph.node)
    assert small.proto.metadata_props == graph.proto.metadata_props


def test_nothing_removed_is_the_same_graph():
    graph = model_of(IMAGE, CHAIN, **SHAPES)
    assert remove_channels(graph, channels_of(graph), {"w": []}) is graph


def test_weights_may_have_changed_since_the_channels_were_found():
    graph = model_of(IMAGE, CHAIN, **SHAPES)
    channels = channels_of(graph)
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((6, 4, 1, 1), np.float32), "w"))
    assert remove_channels(load_graph(proto), channels, {"w": [0]}).initializers["w"].sum() == 20


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        ({"q": [0]}, "no group of channels is named 'q'"),
        ({"v": [0]}, "no channel of 'v' can be removed: it is of the graph output 'y'"),
        ({"w": range(6)}, "nothing would be left of dimension 0 of 'w'"),
    ],
)
def test_what_cannot_be_removed_is_refused(removed, message):
    graph = model_of(IMAGE, CHAIN, **SHAPES)
    with pytest.raises(ModelError, match=message):
        remove_channels(graph, channels_of(graph), removed)


def test_shapes_that_were_noted_are_forgotten_where_they_change():
    graph = model_of(IMAGE, CHAIN.replace("y =", "g =") + " y = Relu(g)", **SHAPES)
    for name, size in (("h", 6), ("g", 3)):
        info = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", size, 5, 5])
        graph.proto.graph.value_info.append(info)
    small = remove_channels(graph, channels_of(graph), {"w": [0]})
    assert [value.name for value in small.proto.graph.value_info] == ["g"]


def test_initializers_that_are_listed_as_inputs_are_listed_as_they_are():
    graph = model_of(IMAGE, CHAIN, 8, ir_version=3, **SHAPES)
    for tensor in graph.proto.graph.initializer:
        info = onnx.helper.make_tensor_value_info(tensor.name, onnx.TensorProto.FLOAT, tensor.dims)
        graph.proto.graph.input.append(info)
    graph = load_graph(graph.proto)
    small = remove_channels(graph, channels_of(graph), {"w": [0]})
    dims = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in small.proto.graph.input
    }
    assert dims["w"] == [5, 4, 1, 1]
    assert run(small, feed_of(small))[0].shape == (2, 3, 5, 5)


@pytest.mark.parametrize("shape", ["c", "k"], ids=["computed", "constant"])
def test_old_files_say_anew_how_many_channels_are_flattened(shape):
    body = (
        "h = Conv(x, w, b) r = Relu(h) d = Shape(r) n = Gather(d, i) "
        f"u = Unsqueeze<axes=[0]>(n) c = Concat<axis=0>(u, l) f = Reshape(r, {shape}) y = MatMul(f, v)"
    )
    constants = SHAPES | {"v": (150, 3), "i": ints(0).reshape(()), "l": ints(150), "k": ints(-1, 150)}
    graph = model_of(IMAGE, body, 8, ir_version=3, **constants)
    add_initializers(graph.proto, [graph.proto.graph.initializer.pop() for _ in constants])
    graph = load_graph(graph.proto)
    small = remove_channels(graph, channels_of(graph), {"w": [0, 3]})
    onnx.checker.check_model(small.proto)
    wanted = run(zeroed(graph, channels_of(graph), {"w": [0, 3]}, BOTH), feed_of(graph))[0]
    np.testing.assert_allclose(run(small, feed_of(graph))[0], wanted, atol=1e-4)


def test_constants_of_every_kind_are_cut():
    body = "c = Constant<value_floats=[1.0,2.0,3.0,4.0,5.0,6.0]>() m = MatMul(x, w) h = Mul(m, c) y = MatMul(h, v)"
    graph = model_of("float[N,4] x", body, w=(4, 6), v=(6, 3))
    dense = np.zeros((6, 3), np.float32)
    dense[[0, 1, 3, 5], [0, 1, 2, 0]] = [1, 2, 3, 4]
    places = np.flatnonzero(dense)
    values = numpy_helper.from_array(dense.reshape(-1)[places], "v")
    indices = numpy_helper.from_array(places, "places")
    graph.proto.graph.initializer.pop()
    graph.proto.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, indices, [6, 3]))
    graph = load_graph(graph.proto)
    channels = channels_of(graph)
    small = remove_channels(graph, channels, {"w": [1, 2]})
    assert small.initializers["c"].tolist() == [1, 4, 5, 6]
    np.testing.assert_array_equal(small.initializers["v"], dense[[0, 3, 4, 5]])


def test_indices_of_two_nodes_are_numbered_for_each():
    body = (
        "h = Conv(x, w) g = Conv(x, u) a = Gather<axis=1>(h, i) b = Gather<axis=1>(g, i) s = Add(a, b) y = Conv(s, v)"
    )
    graph = model_of(IMAGE, body, w=(6, 4, 1, 1), u=(5, 4, 1, 1), v=(3, 3, 1, 1), i=ints(4, 0, 2))
    channels = channels_of(graph)
    name = next(group.name for group in channels.groups if not group.reason and group.slices[0].positions.max() == 5)
    rng = np.random.default_rng(0)
    removed = random_half(channels) | {name: [0]}
    small = remove_channels(graph, channels, removed)
    feed = {"x": rng.standard_normal((2, 4, 5, 5)).astype(np.float32)}
    wanted = run(zeroed(graph, channels, removed, BOTH), feed)[0]
    np.testing.assert_allclose(run(small, feed)[0], wanted, atol=1e-4)
    assert "i" not in small.initializers


def test_weights_of_functions_are_cut_where_they_are_used():
    text = """<ir_version: 9, opset_import: ["" : 18, "own" : 1]>
    g (float[N,4] x) => (float[N,3] y) { h = own.layer(x) y = MatMul(h, v) }
    <domain: "own", opset_import: ["" : 18]> layer (a) => (c) {
        w = Constant<value = float[4,2] {1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0}>() b = MatMul(a, w) c = Relu(b) }"""
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(numpy_helper.from_array(np.ones((2, 3), np.float32), "v"))
    graph = load_graph(proto)
    channels = check(graph)
    group = next(group for group in channels.groups if not group.reason)
    assert group.count == 2
    assert not remove_channels(graph, channels, {group.name: [0]}).proto.functions


def test_what_a_subgraph_reads_stays():
    text = """<ir_version: 9, opset_import: ["" : 18]>
    g (float[N,4] x, bool c) => (float y) {
        h = MatMul(x, w)
        y = If (c) <then_branch = t () => (float a) { a = MatMul(h, v) },
                    else_branch = e () => (float b) { b = MatMul(h, u) }>
    }"""
    proto = onnx.parser.parse_model(text)
    for name, shape in (("w", (4, 6)), ("v", (6, 3)), ("u", (6, 3))):
        proto.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), name))
    feed = {"x": np.ones((2, 4), np.float32), "c": np.array(True)}
    channels = find_channels(trace(OnnxModule(load_graph(proto)).eval(), feed))
    assert {group.name: group.reason for group in channels.groups if group.name == "w"} == {
        "w": "If node 'If_1' is an operator without a rule for channels"
    }
