import onnx.parser
import pytest

from toolchain.errors import ModelError
from toolchain.graph import load_graph


@pytest.mark.parametrize("size", [0, -1])
def test_a_dimension_without_a_size_is_open(size):
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 3, M] x) => (float[N, 3, M] y) { y = Relu(x) }'
    )
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = size
    graph = load_graph(proto)
    assert graph.inputs[0].shape == (None, 3, "M")
    assert graph.batch_size is None


@pytest.mark.parametrize("field", ["input", "output"])
def test_an_element_type_that_is_none_is_refused_by_name(field):
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N] given) => (float[N] made) { made = Relu(given) }'
    )
    value = getattr(proto.graph, field)[0]
    value.type.tensor_type.elem_type = 99
    with pytest.raises(ModelError, match=f"'{value.name}' has the unknown element type 99"):
        load_graph(proto)


def test_the_names_of_nodes_that_have_none_stay_short():
    branch = "b () => (float[2] o) {{ o = Neg ({0}) }}"
    branches = f"then_branch = {branch}, else_branch = {branch}"
    body = " ".join(f"v{k + 1} = If (c) <{branches.format(f'v{k}')}>" for k in range(100))
    text = f'<ir_version: 8, opset_import: ["" : 17]> g (float[2] v0, bool c) => (float[2] v100) {{ {body} }}'
    names = [node.name for node in load_graph(onnx.parser.parse_model(text)).walk()]
    assert len(set(names)) == len(names) == 300
    assert max(map(len, names)) < 10
