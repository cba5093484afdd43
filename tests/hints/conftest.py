"""A convolutional model that is wide enough for every alternative, and what a run knows of it."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from calibration.data import Preprocessing
from toolchain.graph import load_graph
from toolchain.hints.alternatives import Original
from toolchain.module import OnnxModule
from toolchain.running.workload import load_workload

MODEL = """
<ir_version: 8, opset_import: ["" : 13]>
wide (float[{batch},128,8,8] x) => (float[{batch},10] y)
{{
    a = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, first)
    b = Relu(a)
    c = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(b, second)
    d = Relu(c)
    e = GlobalAveragePool(d)
    f = Flatten(e)
    y = Gemm<transB = 1>(f, third)
}}
"""
NARROW = """
<ir_version: 8, opset_import: ["" : 13]>
narrow (float[N,8] x) => (float[N,4] y)
{
    y = Gemm<transB = 1>(x, first)
}
"""
SHAPES = {"first": (128, 128, 3, 3), "second": (128, 128, 3, 3), "third": (10, 128)}


def make_original(folder, text, shapes):
    rng = np.random.default_rng(0)
    proto = parser.parse_model(text)
    for name, shape in shapes.items():
        values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        proto.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    path = folder / "model.onnx"
    onnx.save(proto, path)
    graph = load_graph(path)
    teacher = OnnxModule(graph).eval()
    return Original(path, graph, teacher, load_workload(teacher, None, None, Preprocessing(), 0))


@pytest.fixture(scope="session", params=["N", "2"], ids=["open batch", "batch of 2"])
def wide(tmp_path_factory, request):
    return make_original(tmp_path_factory.mktemp("wide"), MODEL.format(batch=request.param), SHAPES)


@pytest.fixture
def narrow(tmp_path):
    return make_original(tmp_path, NARROW, {"first": (4, 8)})
