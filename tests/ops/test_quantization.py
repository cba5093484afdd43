"""Quantizing and dequantizing, against ONNX Runtime, level by level; and the gradient that passes."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from toolchain.graph import load_graph
from toolchain.module import OnnxModule
from toolchain.ops import find, to_tensor
from toolchain.ops.dtypes import integer_limits, numbers, torch_dtype
from toolchain.ops.quantization import dequantize_linear, dynamic_quantize_linear, quantize_linear

INTEGERS = {"uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "uint4": 21, "int4": 22, "uint2": 25, "int2": 26}
FLOAT8 = {"float8e4m3fn": 17, "float8e4m3fnuz": 18, "float8e5m2": 19, "float8e5m2fnuz": 20}
SHAPES = {  # of scale and zero point, and the attributes that they need
    "tensor": ((), ""),
    "axis": ((6,), "axis=1"),
    "last axis": ((20,), "axis=-1"),
    "blocks": ((4, 2, 20), "axis=1, block_size=4"),
}
RUNTIME = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
DIVIDES_IN_HALF = pytest.mark.skipif(RUNTIME < (1, 32), reason="this ONNX Runtime divides in float32 at every opset")


def model(signature, body, opset=25, ir_version=13):
    return f'<ir_version: {ir_version}, opset_import: ["" : {opset}, "com.microsoft" : 1]> g {signature} {{ {body} }}'


def sized(kind, shape):
    return f"{kind}[{','.join(map(str, shape))}]" if shape else kind


def data(shape=(4, 6, 20), kind=np.float32):
    x = np.random.default_rng(0).standard_normal(shape) * 3
    x.flat[:8] = np.arange(8) * 0.25 - 1  # halves of a level where the scale is 0.5
    return x.astype(kind)


def scales(shape, kind=np.float32):
    return np.array(0.5, kind) if not shape else (np.random.default_rng(1).random(shape) + 0.1).astype(kind)


def round_trip(number, shape, attributes, real="float", opset=25):
    """Return a model that quantizes, and casts to float, as neither runtime hands out every type."""
    zero = f"z = Cast<to={number}>(zz)"
    inputs = f"({real}[4,6,20] x, {sized(real, shape)} s, {sized('float', shape)} zz)"
    options = f"<{attributes}>" if attributes else ""
    body = f"{zero} q = QuantizeLinear{options}(x, s, z) y = Cast<to=1>(q)"
    return model(f"{inputs} => (float[4,6,20] y)", body, opset)


@pytest.mark.parametrize("kind", INTEGERS)
@pytest.mark.parametrize("grid", SHAPES)
def test_levels_of_integers_agree(agree_on_text, kind, grid):
    shape, attributes = SHAPES[grid]
    low, high = integer_limits(torch_dtype(INTEGERS[kind]))
    zero = np.asarray(np.random.default_rng(2).integers(low, high + 1, shape), np.float32)
    feed = {"x": data(), "s": scales(shape), "zz": np.asarray(zero)}
    agree_on_text(round_trip(INTEGERS[kind], shape, attributes), feed, rtol=0, atol=0)


@pytest.mark.parametrize("kind", FLOAT8)
@pytest.mark.parametrize("grid", SHAPES)
@pytest.mark.parametrize("scale", [1, 1e-3])
def test_levels_of_small_floats_agree(agree_on_text, kind, grid, scale):
    shape, attributes = SHAPES[grid]
    feed = {"x": data(), "s": np.asarray(scales(shape) * np.float32(scale)), "zz": np.zeros(shape, np.float32)}
    agree_on_text(round_trip(FLOAT8[kind], shape, attributes), feed, rtol=0, atol=0)
    text = round_trip(FLOAT8[kind], shape, ", ".join(filter(None, [attributes, "saturate=0"])))
    if kind.endswith("fnuz"):  # of the others ONNX Runtime saturates some, see test_casting.py
        agree_on_text(text, feed, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["uint8", "int8", "int16", "int4"])
@pytest.mark.parametrize("opset", [21, 22, *(pytest.param(opset, marks=DIVIDES_IN_HALF) for opset in (23, 25))])
def test_levels_of_half_precision_agree(agree_on_text, kind, opset):
    feed = {"x": data(kind=np.float16), "s": np.array(0.0731, np.float16), "zz": np.array(1, np.float32)}
    agree_on_text(round_trip(INTEGERS[kind], (), "", "float16", opset), feed, rtol=0, atol=0)


@pytest.mark.parametrize("opset", [10, 13, 19, 21])
def test_older_versions_agree_and_the_zero_point_may_be_left_out(agree_on_text, opset):
    attributes = "" if opset == 10 else "<axis=0>"
    shape = "" if opset == 10 else "[4]"
    text = model(
        f"(float[4,30] x, float{shape} s) => (uint8[4,30] q, float[4,30] y)",
        f"q = QuantizeLinear{attributes}(x, s) y = DequantizeLinear{attributes}(q, s)",
        opset,
        8,
    )
    scale = np.array(0.02, np.float32) if opset == 10 else scales((4,))
    agree_on_text(text, {"x": data((4, 30)), "s": scale}, rtol=0, atol=0)


def test_the_type_may_be_an_attribute(agree_on_text):
    text = model(
        "(float[4,6] x, float s) => (int16[4,6] a, float[4,6] b)",
        "a = QuantizeLinear<output_dtype=5>(x, s) q = QuantizeLinear<output_dtype=22>(x, s) b = DequantizeLinear(q, s)",
    )
    agree_on_text(text, {"x": data((4, 6)), "s": np.array(0.4, np.float32)}, rtol=0, atol=0)


def test_precision_says_in_what_the_division_rounds():
    x, scale = torch.tensor([300.3, 301.1]), torch.tensor(0.0731)
    plain, half = (quantize_linear(x, scale, output_dtype=5, precision=p) for p in (0, onnx.TensorProto.FLOAT16))
    assert plain.tolist() == torch.round(x / scale).tolist()
    assert half.tolist() == torch.round(x.half() / scale.half()).tolist()
    assert plain.tolist() != half.tolist()


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16", "int32"])
@pytest.mark.parametrize("real", ["float", "float16"])
@pytest.mark.parametrize("grid", SHAPES)
def test_dequantized_integers_agree(agree_on_text, kind, real, grid):
    shape, attributes = SHAPES[grid]
    limits = np.iinfo(kind)
    rng = np.random.default_rng(0)
    x = rng.integers(limits.min, limits.max, (4, 6, 20), endpoint=True).astype(kind)
    scale = np.asarray(scales(shape) * 1e-3, real if real == "float16" else "float32")
    feed = {"x": x, "s": scale}
    inputs = f"({kind}[4,6,20] x, {sized(real, shape)} s"
    zero = ""
    if kind != "int32":
        feed["z"] = np.asarray(rng.integers(limits.min, limits.max, shape, endpoint=True), kind)
        inputs += f", {sized(kind, shape)} z"
        zero = ", z"
    options = f"<{attributes}>" if attributes else ""
    text = model(f"{inputs}) => ({real}[4,6,20] y)", f"y = DequantizeLinear{options}(x, s{zero})")
    agree_on_text(text, feed, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["int4", "uint4", "int2", "uint2", *FLOAT8])
def test_dequantized_small_types_agree(agree_on_text, kind):
    number = {**INTEGERS, **FLOAT8}[kind]
    body = f"q = Cast<to={number}>(x) z = Cast<to={number}>(zz) y = DequantizeLinear<axis=1, block_size=3>(q, s, z)"
    text = model("(float[4,6] x, float[4,2] s, float[4,2] zz) => (float[4,6] y)", body)
    zero = np.zeros((4, 2), np.float32) if kind in FLOAT8 else np.ones((4, 2), np.float32)
    feed = {"x": np.round(data((4, 6))), "s": scales((4, 2)), "zz": zero}
    agree_on_text(text, feed, rtol=0, atol=0)


def test_the_type_of_what_is_dequantized_may_be_an_attribute():
    x, scale = torch.tensor([-7, 100], dtype=torch.int8), torch.tensor(0.1)
    half = dequantize_linear(x, scale, output_dtype=onnx.TensorProto.FLOAT16)
    assert half.dtype == torch.float16
    assert torch.equal(half, (x.float() * scale).half())


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((2, 3)),
        np.full((2, 3), 4.0),
        np.full((2, 3), -4.0),
        np.linspace(0, 255, 511).reshape(7, 73),  # every half of a level
        np.linspace(-100, 155, 511),
        np.array([-0.0]),
        np.random.default_rng(0).standard_normal((3, 1000)) * 1e-20,
    ],
    ids=["zeros", "one value", "one negative value", "halves", "halves around zero", "minus zero", "tiny"],
)
def test_dynamic_quantization_agrees(agree, x):
    agree("DynamicQuantizeLinear", {"x": x.astype(np.float32)}, outputs=3, rtol=0, atol=0)


@pytest.mark.parametrize("number", [*INTEGERS.values(), *FLOAT8.values(), onnx.TensorProto.FLOAT4E2M1])
def test_the_gradient_passes_straight_through_inside_the_clip_range(number):
    x = torch.tensor([-0.3, 0.2, 0.26, 1e6, -1e6], requires_grad=True)
    scale, zero = torch.tensor(0.5), torch.zeros(())
    levels = quantize_linear(x, scale, output_dtype=number)
    with torch.no_grad():
        plain = quantize_linear(x, scale, output_dtype=number)
    assert plain.dtype == torch_dtype(number)
    assert torch.equal(levels.detach().float(), numbers(plain).float())
    y = dequantize_linear(levels, scale)
    assert torch.equal(y.detach(), dequantize_linear(plain, scale))
    (3 * y).sum().backward()
    low = integer_limits(plain.dtype)[0] if number in INTEGERS.values() else -1
    assert x.grad.tolist() == [3.0 * (low < 0), 3.0, 3.0, 0.0, 0.0]
    assert zero.grad is None


def test_the_gradient_passes_dynamic_quantization():
    x = torch.linspace(-1, 2, 10, requires_grad=True)
    levels, scale, zero = dynamic_quantize_linear(x)
    ((levels - zero) * scale.detach()).sum().backward()
    torch.testing.assert_close(x.grad[1:-1], torch.ones(8))


QUANTIZED_LAYER = """<ir_version: 8, opset_import: ["" : 13]> g (float[2,3] x) => (float[2,4] y)
<float[3,4] w = {1.0,-2.0,3.0,0.1, 0.4,0.2,-0.7,1.1, 2.2,-1.3,0.5,-0.6}, float s = {0.02}, int8 z = {0},
 float a = {0.05}, uint8 b = {128}>
{ q = QuantizeLinear(x, a, b) d = DequantizeLinear(q, a, b)
  v = QuantizeLinear(w, s, z) u = DequantizeLinear(v, s, z) y = MatMul(d, u) }"""


def test_a_weight_behind_a_quantizer_trains_and_its_grid_does_not():
    module = OnnxModule(load_graph(onnx.parser.parse_model(QUANTIZED_LAYER)))
    assert list(module.weights()) == ["w"]
    x = torch.tensor([[1.0, 2.0, -1.0], [0.5, 0.0, 30.0]], requires_grad=True)
    module({"x": x})["y"].sum().backward()
    assert torch.equal(x.grad[1, 2], torch.tensor(0.0))  # saturated
    assert (x.grad.flatten()[:5] != 0).all()
    assert (module.weights()["w"].grad != 0).any()
    with torch.no_grad():
        kept = module({"x": x})["y"]
    torch.testing.assert_close(module({"x": x})["y"], kept)


DETECTOR = (Path(__file__).parents[2] / ".." / "shared" / "models" / "zoo" / "yolov8n_int8.onnx").resolve()


@pytest.mark.skipif(not DETECTOR.exists(), reason="the real models are not beside this repository")
def test_every_integer_of_a_quantized_detector_is_onnx_runtimes():
    # As a whole it cannot agree to the last bit: a sigmoid that differs in its last bit moves a level now and then.
    proto = onnx.load(DETECTOR)
    graph = load_graph(DETECTOR)
    nodes = [node for node in graph.nodes if node.op in ("DynamicQuantizeLinear", "ConvInteger")]
    assert len(nodes) > 100
    names = sorted({name for node in nodes for name in (*node.inputs, *node.outputs)} - set(graph.initializers))
    names = [name for name in names if name != "images"]
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    images = np.random.default_rng(0).random((1, 3, 640, 640)).astype(np.float32)
    values = dict(zip(names, session.run(names, {"images": images}), strict=True)) | {"images": images}
    for node in nodes:
        function = find(node).function
        inputs = [to_tensor(values[name] if name in values else graph.initializers[name]) for name in node.inputs]
        results = function(*inputs, **node.attributes)
        for name, result in zip(node.outputs, results if isinstance(results, tuple) else (results,), strict=True):
            np.testing.assert_array_equal(result.numpy(), values[name], err_msg=name)
