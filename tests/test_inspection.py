import json

import numpy as np
import onnx.parser
import pytest

from toolchain.errors import ModelError
from toolchain.inspection import inspect, render_inspection, to_json

TEXT = """
    <ir_version: 8, opset_import: ["": 17, "com.example": 1]>
    net (float[N, 1, 4, 4] image) => (float[N, 3] logits)
    <float[2, 1, 3, 3] "conv.weight", float[2] "conv.bias", float[8, 3] "fc.weight", float[1] half>
    {
        a = Conv<kernel_shape = [3, 3]>(image, "conv.weight", "conv.bias")
        b = com.example.Wobble(a)
        c = Mul(b, half)
        d = Flatten(c)
        e = com.example.Wobble(d)
        logits = MatMul(e, "fc.weight")
    }
"""


def saved(text, folder, rename=()):
    """Write the model of ``text`` with ones for the tensors that it only declares."""
    model = onnx.parser.parse_model(text)
    for info in model.graph.value_info:
        shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(shape, np.float32), info.name))
    del model.graph.value_info[:]
    for old, new in rename:
        for tensor in model.graph.initializer:
            tensor.name = tensor.name.replace(old, new)
        for node in model.graph.node:
            node.input[:] = [name.replace(old, new) for name in node.input]
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture
def model(tmp_path):
    return saved(TEXT, tmp_path)


def test_every_tensor_is_listed_with_its_share_and_the_reason_why_not(model):
    found = {row.name: row for row in inspect(model).tensors}
    assert list(found) == ["conv.weight", "conv.bias", "half", "fc.weight"]
    assert (found["conv.weight"].op, found["conv.weight"].shape, found["conv.weight"].weights) == (
        "Conv",
        (2, 1, 3, 3),
        18,
    )
    assert found["fc.weight"].reason == ""
    assert found["conv.bias"].reason == "bias"
    assert found["half"].reason == "elementwise operand of Mul"
    assert sum(row.share for row in found.values()) == pytest.approx(1)


def test_totals_and_the_largest_ratio_count_only_what_can_be_pruned(model):
    found = inspect(model)
    assert (found.weights, found.usable_weights, found.largest_ratio) == (18 + 2 + 1 + 24, 42, 21.0)


def test_unsupported_operators_are_listed_and_do_not_fail(model):
    found = inspect(model)
    assert found.unsupported == {"com.example.Wobble": 2}
    assert found.operators == {"com.example.Wobble": 2, "Conv": 1, "Mul": 1, "Flatten": 1, "MatMul": 1}
    assert "not supported  com.example.Wobble 2" in render_inspection(found, width=120)


def test_the_text_names_inputs_outputs_opset_and_every_tensor(model):
    text = render_inspection(inspect(model), width=120)
    for part in (
        f"{model.stat().st_size:,} bytes",
        "ai.onnx 17, com.example 1",
        "image: float32 [N, 1, 4, 4]",
        "logits: float32 [N, 3]",
        "conv.weight",
        "2x1x3x3",
        "no: bias",
        "2 of 4 tensors can be pruned and quantized: 42 of 45 values.",
        "21.00x",
    ):
        assert part in text


def test_json_holds_the_same_and_is_plain(model):
    found = json.loads(to_json(inspect(model)))
    assert found["tensors"][0]["shape"] == [2, 1, 3, 3]
    assert found["inputs"] == [{"name": "image", "dtype": "float32", "shape": ["N", 1, 4, 4]}]
    assert found["unsupported"] == {"com.example.Wobble": 2}


def test_a_narrow_terminal_folds_names_and_loses_none(tmp_path):
    name = "encoder.layers.0.attention.self.query.projection.weight"
    text = render_inspection(inspect(saved(TEXT, tmp_path, [("fc.weight", name)])), width=60)
    column = "".join(line.split(" ")[0] for line in text.splitlines())
    assert name in column
    assert max(map(len, text.splitlines())) <= 60


def test_names_cannot_control_the_terminal(tmp_path):
    text = render_inspection(inspect(saved(TEXT, tmp_path, [("fc.weight", "\x1b[31m[red]x")])), width=120)
    assert "\x1b" not in text
    assert "\\x1b[31m[red]x" in text


def test_a_model_without_weights_has_no_ratio(tmp_path):
    path = saved('<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (float y) { y = Det(x) }', tmp_path)
    found = inspect(path)
    assert (found.tensors, found.largest_ratio) == ((), None)
    assert "0 of 0 tensors" in render_inspection(found)


def test_a_weight_behind_a_constant_expression_is_shown_as_compress_sees_it(tmp_path):
    text = """
        <ir_version: 8, opset_import: ["": 17]>
        g (float[1, 2] x) => (float[1, 3] y) <float[3, 2] w> { t = Transpose(w)  y = MatMul(x, t) }
    """
    found = inspect(saved(text, tmp_path))
    assert found.operators == {"Transpose": 1, "MatMul": 1}
    assert [(row.op, row.shape, row.reason) for row in found.tensors] == [("MatMul", (2, 3), "")]
    assert "note: folded constant expressions" in render_inspection(found, width=120)


def test_a_model_of_half_precision_is_shown_as_compress_sees_it(tmp_path):
    text = """
        <ir_version: 8, opset_import: ["": 17]>
        g (float16[1, 3] x) => (float16[1, 2] y) <float16[3, 2] w = {1, 2, 3, 4, 5, 6}> { y = MatMul(x, w) }
    """
    found = inspect(saved(text, tmp_path))
    assert [(row.name, row.reason) for row in found.tensors] == [("w", "")]
    assert found.inputs[0].dtype == "float16"
    assert "float32" in found.note


def test_what_is_not_a_model_is_an_error(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"GIF89a" * 10)
    with pytest.raises(ModelError, match="not an ONNX file"):
        inspect(tmp_path / "model.onnx")


def test_bytes_and_a_proto_are_described_as_the_file_is(model):
    from_path = inspect(model)
    data = model.read_bytes()
    for given in (data, onnx.load_from_string(data)):
        found = inspect(given)
        assert found.tensors == from_path.tensors
        assert found.file_bytes == from_path.file_bytes == len(data)
        assert type(given).__name__ in found.model


def test_a_sequence_is_said_to_be_one():
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[4] x) => (seq(float[2]) y) { y = SplitToSequence(x) }'
    )
    assert inspect(proto).outputs[0].dtype == "sequence of float32"
