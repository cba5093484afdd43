import numpy as np
import onnx
import pytest
import torch

from toolchain.export import activation_formats, check_folded, verify, write_model
from toolchain.export.encodings.cuts import entropy
from toolchain.export.sessions import open_session
from toolchain.formats import Grid, OwnRange, TensorFormat

MATMUL = '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 256] x) => (float[N, 512] y) { [n] y = MatMul(x, w) }'
PRUNED = (-2, -1, 1, 2)


def prune_blocks(module, inputs, outputs):
    """Zero seven of eight blocks of so many inputs and outputs."""
    kept = np.random.default_rng(0).random((256 // inputs, 512 // outputs)) < 1 / 8
    mask = np.repeat(np.repeat(kept, inputs, 0), outputs, 1)
    with torch.no_grad():
        module.tensor("w").mul_(torch.from_numpy(mask))
    return kept


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 4), (4, 1), (4, 4)])
def test_blocks_of_a_weight_have_one_position_each(build, compress, monkeypatch, inputs, outputs, large):
    if large:  # where lanes take the place of what needs more memory, but not of what takes far fewer bytes
        monkeypatch.setattr("toolchain.export.nbits._LARGE", 1)
    module = build(MATMUL, {"w": (256, 512)})
    kept = prune_blocks(module, inputs, outputs)
    compress(module, float(kept.mean()), PRUNED)
    written = write_model(module, {"n": "nbits"})
    data = written.proto.SerializeToString()
    check_folded(data)
    verify(data, module, [{"x": np.random.default_rng(1).standard_normal((3, 256)).astype(np.float32)}])
    values, positions = kept.mean() * 2, entropy(kept.mean()) / (inputs * outputs)
    scales = 2 * 512
    assert (
        written.tensors["w"].bytes < 1.08 * 256 * 512 * (values + positions) / 8 + scales + 2500
    )  # of nodes; single ones: 13,000


@pytest.mark.parametrize("block", [0, 32])
def test_the_bytes_of_a_weight_are_those_that_the_file_grows_by(build, block):
    module = build(MATMUL, {"w": (256, 512)})
    weight = module.tensor("w").detach()
    blocks = weight.T.reshape(512, -1, block or 256).abs().amax(2) / 7
    grid = Grid(tuple(range(-7, 8)), blocks if block else blocks[:, 0], axis=1, block_size=block)
    module.formats["w"] = TensorFormat(grid=grid)
    with torch.no_grad():
        module.tensor("w").copy_(module.formats["w"].project(weight))
    written = write_model(module, {"n": "nbits"})
    bare = onnx.ModelProto()
    bare.CopyFrom(module.graph.proto)
    bare.graph.ClearField("initializer")
    grown = written.proto.ByteSize() - bare.ByteSize()
    assert 0 <= grown - sum(item.bytes for item in written.tensors.values()) < 200  # of attributes and names


TWO, FOUR = (-1, 0, 1), tuple(range(-7, 8))
HEAD = '<ir_version: 8, opset_import: ["" : 17]> g '
POINT = HEAD + "(float[N, 8, 6, 6] x) => (float[N, 5, 6, 6] y) { [n] y = Conv(x, w) }"
GEMM = HEAD + "(float[N, 200] x) => (float[N, 32] y) { [n] y = Gemm<transB = 1>(x, w) }"


def put_on_blocks(module, levels, axis, size):
    """Put the weight on a grid of one scale per output, or per block of so many inputs."""
    weight = module.tensor("w").detach()
    rows = weight.movedim(axis, 0).flatten(1)
    rows = torch.nn.functional.pad(rows, (0, -rows.shape[1] % (size or rows.shape[1])))
    scale = rows.unflatten(1, (-1, size or rows.shape[1])).abs().amax(2) / levels[-1]
    module.formats["w"] = TensorFormat(grid=Grid(levels, scale if size else scale[:, 0], axis=axis, block_size=size))
    with torch.no_grad():
        module.tensor("w").copy_(module.formats["w"].project(weight))


@pytest.mark.parametrize(
    ("text", "shape"), [(MATMUL, (256, 512)), (GEMM, (32, 200)), (POINT, (5, 8, 1, 1))], ids=["MatMul", "Gemm", "1x1"]
)
@pytest.mark.parametrize("levels", [TWO, FOUR, tuple(range(-127, 128))], ids=["2 bit", "4 bit", "8 bit"])
def test_the_operator_may_round_activations_to_8_bits(build, compress, text, shape, levels):
    module = build(text, {"w": shape})
    compress(module, 1.0, levels)
    nodes = write_model(module, {"n": "nbits"}).proto.graph.node
    (node,) = (node for node in nodes if node.op_type == "MatMulNBits")
    assert {item.name: item.i for item in node.attribute}["accuracy_level"] == 4


@pytest.mark.parametrize("levels", [TWO, FOUR, tuple(range(-127, 128))], ids=["2 bit", "4 bit", "8 bit"])
@pytest.mark.parametrize(
    ("text", "shape", "block", "rounded"),
    [
        (MATMUL, (256, 512), 0, OwnRange(-1, 128)),
        (MATMUL, (256, 512), 16, OwnRange(-1, 16)),
        (GEMM, (32, 200), 64, OwnRange(-1, 64)),
        (POINT, (5, 8, 1, 1), 32, OwnRange(1, 32)),
    ],
    ids=["matrix", "short blocks", "last block not full", "1x1"],
)
def test_the_module_rounds_what_the_operator_rounds(build, text, shape, block, rounded, levels):
    module, axis = build(text, {"w": shape}), 1 if text == MATMUL else 0
    put_on_blocks(module, levels, axis, block)
    size = (8, 6, 6) if len(shape) == 4 else (shape[1 - axis],)
    x = {"x": np.random.default_rng(1).standard_normal((3, *size)).astype(np.float32)}
    (found,) = open_session(write_model(module, {"n": "nbits"}).proto, threads=1).run(None, x)
    with torch.no_grad():
        exact = module(x)["y"].numpy()
        module.formats |= activation_formats(module, {"n": "nbits"}, {})
        alike = module(x)["y"].numpy()
    stays_float = levels == TWO and block == 16
    assert module.formats.get("x") is None if stays_float else module.formats["x"].own_range == rounded
    assert np.abs(found - alike).max() < 1e-3 * np.abs(exact).max()
    assert stays_float or np.abs(found - alike).max() < 0.2 * np.abs(found - exact).max()


def test_a_value_that_others_read_as_it_is_is_not_rounded_for_all(build, compress):
    text = MATMUL.replace("}", "z = Relu(x) }").replace("y) {", "y, float[N, 256] z) {")
    module = build(text, {"w": (256, 512)})
    compress(module, 1, FOUR)
    assert not activation_formats(module, {"n": "nbits"}, {})
