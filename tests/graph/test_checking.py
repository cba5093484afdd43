import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from toolchain.errors import ModelError
from toolchain.graph import load_graph
from toolchain.graph.checking import objection_to
from toolchain.module import OnnxModule

NORMALIZED = """
<ir_version: 7, opset_import: ["" : 12]>
g (float[2, 4] x) => (float[2, 4] y) <float[4] scale = {1, 2, 3, 4}, float[4] bias = {0, 1, 0, 1}, float two = {2}> {
  m = ReduceMean<axes = [-1]>(x) d = Sub(x, m) s = Pow(d, two) v = ReduceMean<axes = [-1]>(s)
  e = Constant<value = float {0.00001}>() w = Add(v, e) r = Sqrt(w) n = Div(d, r) k = Mul(n, scale) y = Add(k, bias)
}
"""


def optimized(proto, path):
    """The model as ONNX Runtime's optimizer saves it."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(proto.SerializeToString(), options)
    return path


def test_a_file_with_operators_that_the_runtime_fused_is_imported(tmp_path):
    proto = onnx.parser.parse_model(NORMALIZED)
    path = optimized(proto, tmp_path / "optimized.onnx")
    with pytest.raises(onnx.checker.ValidationError, match="No Op registered for LayerNormalization"):
        onnx.checker.check_model(path)
    x = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    got = OnnxModule(load_graph(path)).eval()({"x": x})["y"].detach()
    np.testing.assert_allclose(got, onnxruntime.InferenceSession(path).run(None, {"x": x})[0], rtol=1e-5, atol=1e-6)


def old_model(weight):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [value("x", onnx.TensorProto.FLOAT, [1, 2])],
        [value("y", onnx.TensorProto.FLOAT, None)],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=3)


def test_an_old_file_may_keep_initializers_out_of_its_inputs_and_an_output_without_shape():
    weight = np.array([[1, 2], [3, 4]], np.float32)
    module = OnnxModule(load_graph(old_model(numpy_helper.from_array(weight, "w"))))
    np.testing.assert_array_equal(module({"x": np.ones((1, 2), np.float32)})["y"].detach(), [[4, 6]])


def test_what_else_is_wrong_is_still_told():
    model = old_model(numpy_helper.from_array(np.ones((2, 2), np.float32), "w"))
    model.graph.node.append(helper.make_node("Relu", ["nowhere"], ["z"]))
    with pytest.raises(ModelError, match="nowhere"):
        load_graph(model)


def test_an_operator_that_nobody_has_is_told_when_the_model_is_resolved():
    model = old_model(numpy_helper.from_array(np.ones((2, 2), np.float32), "w"))
    model.graph.node[0].op_type = "MatMull"
    with pytest.raises(ModelError, match=r"ai\.onnx\.MatMull: 1 node"):
        OnnxModule(load_graph(model))


def test_an_objection_of_shape_inference_is_one_too():
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]> g (float[2] x) => (float[2] y) { y = Neg (x) }'
    )
    values, indices = onnx.TensorProto(), onnx.TensorProto()
    values.CopyFrom(onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [3], [1, 2, 3]))
    indices.CopyFrom(onnx.helper.make_tensor("", onnx.TensorProto.INT64, [3], [0, 1, 2]))
    indices.int64_data.append(3)
    proto.graph.sparse_initializer.append(onnx.SparseTensorProto(values=values, indices=indices, dims=[4]))
    assert "size mismatch" in objection_to(proto)
