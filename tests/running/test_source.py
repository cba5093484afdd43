import numpy as np
import onnx
import onnx.parser
import pytest

from toolchain.errors import ModelError
from toolchain.running.source import load_source


def save(text, path):
    onnx.save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}'), path)
    return path


def test_a_file_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(b"PK\x03\x04 a zip, not a model")
    with pytest.raises(ModelError, match="not an ONNX file"):
        load_source(path)
    with pytest.raises(ModelError, match="cannot read"):
        load_source(tmp_path / "none.onnx")


def test_a_model_beyond_2_gib_is_refused(tmp_path):
    path = tmp_path / "large.onnx"
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[n, 3] x) => (float[n, 200000000] y) { y = MatMul(x, w) }'
    )
    weight = proto.graph.initializer.add(
        name="w", data_type=onnx.TensorProto.FLOAT, dims=[3, 200_000_000], data_location=onnx.TensorProto.EXTERNAL
    )
    weight.external_data.add(key="location", value="large.bin")
    path.write_bytes(proto.SerializeToString())
    with (tmp_path / "large.bin").open("wb") as file:
        file.truncate(2_400_000_000)  # a hole: nothing is on the disk, nor read
    with pytest.raises(ModelError, match="more than 2 GiB of weights"):
        load_source(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("g (string[2] x) => (int64[1] y) { y = Shape(x) }", "input 'x' is strings"),
        ("g (float[2] x) => (seq(float[2]) y) { y = SequenceConstruct(x) }", "output 'y' is a sequence"),
    ],
)
def test_what_is_no_tensor_of_numbers_is_refused(tmp_path, text, message):
    with pytest.raises(ModelError, match=message) as caught:
        load_source(save(text, tmp_path / "ports.onnx"))
    assert "cut the graph" in caught.value.hint


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_that_is_no_number_is_refused(tmp_path, value):
    path = save("g (float[2, 3] x) => (float[2, 4] y) { y = MatMul(x, w) }", tmp_path / "nan.onnx")
    proto = onnx.load(path)
    weight = np.ones((3, 4), np.float32)
    weight[1, 2] = value
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    onnx.save(proto, path)
    with pytest.raises(ModelError, match="weight 'w' of MatMul holds NaN or infinity"):
        load_source(path)


def test_a_weight_that_the_graph_hides_is_brought_to_light(tmp_path):
    text = "g (float[2, 3] x) => (float[2, 4] y) <float[4, 3] w> { t = Transpose(w) y = MatMul(x, t) }"
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    proto.graph.initializer.add(name="w", data_type=1, dims=[4, 3], float_data=[0.5] * 12)
    del proto.graph.value_info[:]
    onnx.save(proto, tmp_path / "hidden.onnx")
    graph, note = load_source(tmp_path / "hidden.onnx")
    assert [node.op for node in graph.nodes] == ["MatMul"]
    assert note
