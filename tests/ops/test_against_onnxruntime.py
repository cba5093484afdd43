"""Operators, versions and attributes that no official node case covers, against ONNX Runtime."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from toolchain.graph import load_graph
from toolchain.module import OnnxModule


def outputs(text, feed):
    proto = onnx.parser.parse_model(text)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    expected = onnxruntime.InferenceSession(proto.SerializeToString(), options).run(None, feed)
    with torch.no_grad():
        got = OnnxModule(load_graph(proto)).eval()(feed)
    return [value.numpy() for value in got.values()], expected


def model(signature, body, opset, extra=""):
    return f'<ir_version: 8, opset_import: ["" : {opset}{extra}]> g {signature} {{ {body} }}'


X4 = "(float[2,6,9,8] x)"
UNARY = {
    "global Lp pooling": (X4, "y = GlobalLpPool<p=3>(x)", 9),
    "softmax over flattened dimensions": ("(float[2,3,4] x)", "y = Softmax<axis=1>(x)", 9),
    "log softmax over flattened dimensions": ("(float[2,3,4] x)", "y = LogSoftmax<axis=1>(x)", 12),
    "hardmax over flattened dimensions": ("(float[2,3,4] x)", "y = Hardmax<axis=1>(x)", 12),
    "clip by attributes": ("(float[2,3] x)", "y = Clip<min=-0.25, max=0.5>(x)", 10),
    "clip without bounds": ("(float[2,3] x)", "y = Clip(x)", 7),
    "squeeze by attribute": ("(float[2,1,3,1] x)", "y = Squeeze<axes=[1]>(x)", 9),
    "unsqueeze by attribute": ("(float[2,3] x)", "y = Unsqueeze<axes=[3,0]>(x)", 9),
    "slice by attributes": ("(float[5,6] x)", "y = Slice<axes=[1], starts=[-4], ends=[1000]>(x)", 9),
    "pad by attribute": ("(float[1,2,3] x)", 'y = Pad<pads=[0,0,2,0,0,1], mode="reflect">(x)', 9),
    "crop by negative pads": ("(float[1,2,5] x)", "y = Pad<pads=[0,0,-1,0,0,2], value=7.0>(x)", 9),
    "reduction by attribute": ("(float[2,3,4] x)", "y = ReduceSum<axes=[-1,0], keepdims=0>(x)", 11),
    "mean by attribute": ("(float[2,3,4] x)", "y = ReduceMean<axes=[1]>(x)", 17),
    "dropout at inference": ("(float[2,3] x)", "y = Dropout<ratio=0.3>(x)", 7),
    "upsampling by attribute": (X4, 'y = Upsample<mode="linear", scales=[1.0,1.0,2.0,1.5]>(x)', 8),
    "max pooling with different pads": (X4, "y = MaxPool<kernel_shape=[3,2], pads=[0,1,2,0], strides=[2,2]>(x)", 12),
    "max pooling with ceil and different pads": (
        X4,
        "y = MaxPool<kernel_shape=[3,3], pads=[0,1,1,0], strides=[2,2], ceil_mode=1>(x)",
        12,
    ),
    "max pooling with wide pads": (X4, "y = MaxPool<kernel_shape=[2,2], pads=[1,1,1,1], strides=[1,1]>(x)", 12),
    "average pooling with different pads": (
        X4,
        "y = AveragePool<kernel_shape=[3,2], pads=[0,1,2,0], strides=[2,2]>(x)",
        11,
    ),
    "average pooling that counts different pads": (
        X4,
        "y = AveragePool<kernel_shape=[3,2], pads=[0,1,2,0], strides=[2,2], count_include_pad=1>(x)",
        11,
    ),
    "average pooling that keeps the size": (X4, 'y = AveragePool<kernel_shape=[2,2], auto_pad="SAME_UPPER">(x)', 11),
    "top k by attribute": ("(float[3,7] x)", "y, i = TopK<k=3, axis=1>(x)", 9),
}


@pytest.mark.parametrize("name", UNARY)
def test_operator_of_one_input_agrees(name):
    inputs, body, opset = UNARY[name]
    shape = [int(n) for n in inputs[inputs.index("[") + 1 : inputs.index("]")].split(",")]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    got, expected = outputs(model(f"{inputs} => (float y)", body, opset), {"x": x})
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-5, atol=1e-6)


CONVOLUTIONS = {
    "one dimension": ("Conv", (2, 4, 9), (6, 4, 3), "pads=[2,0], strides=[2]"),
    "three dimensions": ("Conv", (1, 2, 5, 5, 5), (3, 2, 3, 3, 3), "pads=[1,1,1,1,1,1]"),
    "depthwise": ("Conv", (2, 6, 8, 8), (6, 1, 3, 3), "group=6, pads=[1,1,1,1]"),
    "dilated groups": ("Conv", (2, 6, 9, 9), (4, 3, 3, 3), "group=2, dilations=[2,2]"),
    "same size, more padding before": ("Conv", (1, 3, 8, 7), (2, 3, 3, 2), 'auto_pad="SAME_LOWER", strides=[2,2]'),
    "no padding": ("Conv", (1, 3, 8, 7), (2, 3, 3, 2), 'auto_pad="VALID"'),
    "transposed": ("ConvTranspose", (2, 4, 5, 6), (4, 3, 3, 2), "strides=[2,3], pads=[1,0,1,1]"),
    "transposed, different pads": ("ConvTranspose", (2, 4, 5, 6), (4, 3, 3, 2), "strides=[2,3], pads=[0,1,1,0]"),
    "transposed in groups": ("ConvTranspose", (2, 4, 5, 6), (4, 3, 3, 3), "group=2, dilations=[2,1]"),
    "transposed, output padded": ("ConvTranspose", (2, 4, 5), (4, 3, 3), "strides=[2], output_padding=[1], pads=[1,1]"),
    "transposed to twice the size": ("ConvTranspose", (2, 4, 5), (4, 3, 3), 'strides=[2], auto_pad="SAME_UPPER"'),
    "transposed to a given size": ("ConvTranspose", (2, 4, 5), (4, 3, 3), "strides=[2], output_shape=[9]"),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution_agrees(name):
    op, x_shape, w_shape, attributes = CONVOLUTIONS[name]
    group = 2 if "group=2" in attributes else 1
    channels = w_shape[0] if op == "Conv" else w_shape[1] * group
    rng = np.random.default_rng(0)
    feed = {
        "x": rng.standard_normal(x_shape).astype(np.float32),
        "w": rng.standard_normal(w_shape).astype(np.float32),
        "b": rng.standard_normal(channels).astype(np.float32),
    }
    declared = ", ".join(f"float[{','.join(map(str, value.shape))}] {key}" for key, value in feed.items())
    text = model(f"({declared}) => (float y)", f"y = {op}<{attributes}>(x, w, b)", 11)
    got, expected = outputs(text, feed)
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("starts", "ends", "steps"),
    [([7, -1], [0, -1000], [-2, -1]), ([1, 0], [1, 5], [1, 2]), ([0, 5], [-9, 1], [1, -3]), ([2, 3], [5, 9], [-1, -1])],
)
def test_slice_takes_any_start_end_and_step(starts, ends, steps):
    feed = {"x": np.arange(48, dtype=np.float32).reshape(8, 6)}
    inputs = ", ".join(
        f"int64[2] {key} = {{{values[0]},{values[1]}}}"
        for key, values in {"starts": starts, "ends": ends, "axes": [0, 1], "steps": steps}.items()
    )
    text = (
        '<ir_version: 8, opset_import: ["" : 13]> g (float[8,6] x) => (float[m,n] y) '
        f"<{inputs}> {{ y = Slice(x, starts, ends, axes, steps) }}"
    )
    got, expected = outputs(text, feed)
    np.testing.assert_array_equal(got[0], expected[0])


def test_negation_agrees():
    text = model("(bool[4] x) => (bool[4] y)", "y = Not(x)", 13)
    got, expected = outputs(text, {"x": np.array([True, False, False, True])})
    np.testing.assert_array_equal(got[0], expected[0])


def test_contributed_gelu_agrees():
    feed = {"x": np.linspace(-3, 3, 12, dtype=np.float32).reshape(3, 4)}
    text = model("(float[3,4] x) => (float[3,4] y)", "y = com.microsoft.Gelu(x)", 13, ', "com.microsoft" : 1')
    got, expected = outputs(text, feed)
    np.testing.assert_allclose(got[0], expected[0], atol=1e-6)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("with_zero_points", [False, True])
def test_matrix_product_with_packed_weight_agrees(bits, with_zero_points):
    rows, columns, block = 5, 72, 32
    blocks = -(-columns // block)
    rng = np.random.default_rng(bits)
    tensors = {
        "b": rng.integers(0, 256, (rows, blocks, block * bits // 8)).astype(np.uint8),
        "s": rng.random((rows, blocks)).astype(np.float32),
    }
    if with_zero_points:
        tensors["z"] = rng.integers(0, 256, (rows, -(-blocks * bits // 8))).astype(np.uint8)
    node = onnx.helper.make_node(
        "MatMulNBits", ["x", *tensors], ["y"], domain="com.microsoft", K=columns, N=rows, bits=bits, block_size=block
    )
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [3, columns])],
        [onnx.helper.make_tensor_value_info("y", 1, [3, rows])],
        [onnx.numpy_helper.from_array(value, key) for key, value in tensors.items()],
    )
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.microsoft", 1)]
    proto = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    feed = {"x": rng.standard_normal((3, columns)).astype(np.float32)}
    expected = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, feed)[0]
    got = OnnxModule(load_graph(proto)).eval()(feed)["y"].detach().numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-3)
