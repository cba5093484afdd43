import numpy as np
import onnx
import pytest

from toolchain.graph import load_graph


@pytest.fixture
def graph_of():
    def build(text, **initializers):
        proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {text}')
        for name, array in initializers.items():
            proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
        return load_graph(proto)

    return build
