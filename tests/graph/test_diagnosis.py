import onnx
import pytest
from onnx import helper

from toolchain.errors import ModelError
from toolchain.graph import load_graph

TEXT = """<ir_version: 10, opset_import: ["" : 21]>
net (float[2] given, bool choice) => (float[2] result) <float[2] weight = {1,2}>
{ sum = Add (given, weight)
  result = If (choice) < then_branch = yes () => (float[2] left) { [inner] left = Relu (sum) },
                         else_branch = no () => (float[2] right) { right = Neg (sum) }> }"""


@pytest.fixture
def proto():
    return onnx.parser.parse_model(TEXT)


def drop_type(proto):
    proto.graph.input[0].ClearField("type")


def change_element_type(proto):
    proto.graph.initializer[0].data_type = onnx.TensorProto.INT32


def add_attribute(proto):
    proto.graph.node[0].attribute.append(helper.make_attribute("nonsense", 1))


def add_inner_input(proto):
    proto.graph.node[1].attribute[0].g.node[0].input.append("sum")


@pytest.mark.parametrize(
    ("damage", "culprit", "reason"),
    [
        (drop_type, "input 'given'", "Field 'type'"),
        (change_element_type, "tensor 'weight'", "int32_data"),
        (add_attribute, "Add node that makes 'sum'", "Unrecognized attribute: nonsense"),
        (add_inner_input, "Relu node 'inner'", "has input size 2 not in range"),
    ],
)
def test_what_the_checker_objects_to_is_named(proto, damage, culprit, reason):
    damage(proto)
    with pytest.raises(ModelError, match=f"not a valid ONNX model: {culprit}: .*{reason}"):
        load_graph(proto)


def test_a_fault_that_the_checker_places_itself_is_told_as_it_is(proto):
    proto.graph.node[0].input[0] = "nobody"
    with pytest.raises(ModelError, match=r"not a valid ONNX model: Nodes in a graph .* input 'nobody'"):
        load_graph(proto)


def test_versions_beyond_any_number_are_refused(proto):
    proto.opset_import[0].version = 2**62
    with pytest.raises(ModelError, match="4611686018427387904 is out of supported range"):
        load_graph(proto)


@pytest.mark.parametrize("name", [b"given", b"sum", b"weight", b"inner", b"Relu", b"net"])
def test_a_name_that_is_no_text_is_refused(proto, name):
    damaged = proto.SerializeToString().replace(name, name[:1] + b"\xff" + name[2:])
    with pytest.raises(ModelError, match=r"the name b'.\\xff\w*' is no UTF-8"):
        load_graph(damaged)


def test_a_text_that_is_none_is_refused_by_attribute_and_node(proto):
    attribute = helper.make_attribute("mode", b"\xff\xfe")
    proto.graph.node.append(helper.make_node("Pad", ["given", "weight"], ["padded"], name="border"))
    proto.graph.node[2].attribute.append(attribute)
    with pytest.raises(ModelError, match="attribute 'mode' of Pad node 'border' cannot be read"):
        load_graph(proto)


def test_a_constant_of_a_function_without_a_value_is_refused():
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21, "local" : 1]> net (float[2] x) => (float[2] y) { y = local.add (x) }'
        '<domain: "local", opset_import: ["" : 21]> add (a) => (b) '
        "{ c = Constant <value_float = 1.0> ()  b = Add (a, c) }"
    )
    del proto.functions[0].node[0].attribute[:]
    with pytest.raises(ModelError, match="function 'add' has a Constant node without a value"):
        load_graph(proto)


def test_a_location_that_is_no_text_is_refused(proto, tmp_path):
    proto.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    proto.graph.initializer[0].external_data.add(key="location", value="weights.bin")
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString().replace(b"weights.bin", b"wei\xffhts.bin"))
    with pytest.raises(ModelError, match=r"the name b'wei\\xffhts.bin' is no UTF-8"):
        load_graph(path)
