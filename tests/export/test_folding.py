"""A file whose decode would run at every inference is refused."""

import numpy as np
import onnx.parser
import pytest

from toolchain.errors import ExportError
from toolchain.export import check_folded, write_model
from toolchain.export.folding import optimized_graph
from toolchain.graph import load_graph

UNFOLDED = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[2] x) => (float[N] y)
<bool[4] keep = {1, 0, 1, 0}, float[4] w = {1.0, 2.0, 3.0, 4.0}>
{
  kept = Compress (w, keep)
  y = Mul (x, kept)
}
"""


def test_a_decode_node_that_the_runtime_does_not_fold_is_named():
    model = onnx.parser.parse_model(UNFOLDED).SerializeToString()
    assert "Compress" in [node.op_type for node in optimized_graph(model).node]
    with pytest.raises(ExportError, match=r"1 decode nodes \(Compress\).*'kept'"):
        check_folded(model)


OWN = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 64] x) => (float[N, 64] y, int64[A, 1] k)
<float[3] s = {1.0, 0.0, 2.0}>
{
  places = NonZero (s)
  k = Transpose (places)
  [n] y = MatMul (x, w)
}
"""


def test_what_the_model_computes_from_constants_itself_is_no_decoding(build, compress):
    module = build(OWN, {"w": (64, 64)})
    compress(module, 0.3, (-2, -1, 1, 2))
    written = write_model(module, {})
    assert written.tensors["w"].encoding == "packed"
    data = written.proto.SerializeToString()
    assert "NonZero" in [node.op_type for node in optimized_graph(data).node]
    check_folded(data, module.graph)
    with pytest.raises(ExportError, match=r"NonZero"):
        check_folded(data)


INLINED = """
<ir_version: 10, opset_import: ["" : 21]>
net (float[N, 64, 2, 2] x) => (float[N, 64, 2, 2] y)
{
  [n] h = Conv (x, w)
  y = GroupNormalization <num_groups = 4> (h, s, b)
}
"""


def test_what_the_runtime_makes_of_an_operator_without_a_kernel_is_no_decoding(build, compress):
    module = build(INLINED, {"w": (64, 64, 1, 1), "s": (64,), "b": (64,)})
    compress(module, 0.3, (-2, -1, 1, 2))
    check_folded(write_model(module, {}).proto.SerializeToString(), module.graph)


def test_a_node_that_was_added_is_named_beside_the_models_own():
    added = onnx.parser.parse_model(UNFOLDED)
    plain = onnx.parser.parse_model(UNFOLDED.replace("kept = Compress (w, keep)", "").replace("kept)", "w)"))
    with pytest.raises(ExportError, match=r"1 decode nodes \(Compress\).*'kept'"):
        check_folded(added.SerializeToString(), load_graph(plain))


def test_a_folded_model_passes_from_a_file(tmp_path):
    text = UNFOLDED.replace("Compress (w, keep)", "Slice (w, s, e)").replace(
        "bool[4] keep = {1, 0, 1, 0}", "int64[1] s = {0}, int64[1] e = {2}"
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    check_folded(path)
    assert [node.op_type for node in optimized_graph(path).node] == ["Mul"]


def test_a_model_that_does_not_load_is_refused():
    with pytest.raises(ExportError, match="does not load"):
        check_folded(np.zeros(10, np.uint8).tobytes())
