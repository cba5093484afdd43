import onnx
import pytest
from onnx import helper

from toolchain.errors import ModelError
from toolchain.graph import load_graph
from toolchain.ops import find


def test_a_node_whose_attributes_make_no_sense_is_refused_by_name():
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]> net (float[1,1,2,2] x) => (float[1,1,2,2] y) '
        "{ [fused] y = com.microsoft.FusedConv (x, x) }"
    )
    proto.graph.node[0].attribute.append(helper.make_attribute("activation", [1, 2]))
    with pytest.raises(ModelError, match="the attributes of FusedConv node 'fused' make no sense: "):
        find(load_graph(proto).nodes[0])
