import numpy as np
import onnx
import pytest
import torch

from toolchain.export import check_folded, verify, write_model
from toolchain.export.encodings.cuts import entropy
from toolchain.formats import Grid, TensorFormat

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
