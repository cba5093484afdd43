"""Grids with zero points by channel and scales by block come back from the file bit for bit."""

import itertools

import numpy as np
import pytest
import torch

from passes.constraints.levels import fit_grid, level_target
from toolchain.amounts import parse_quant
from toolchain.errors import ExportError
from toolchain.export import write_model
from toolchain.export.folding import check_folded
from toolchain.export.kernels import KERNELS
from toolchain.export.sessions import open_session
from toolchain.formats import TensorFormat

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
# Models whose output is the weight, rearranged: every product has one term that is not zero.
MODELS = {
    "MatMul": (f"{HEAD} m (float[N, 70] x) => (float[N, 9] y) {{ y = MatMul(x, w) }}", (70, 9), 1, np.eye(70)),
    "Gemm": (f"{HEAD} g (float[N, 70] x) => (float[N, 9] y) {{ y = Gemm<transB = 1>(x, w) }}", (9, 70), 0, np.eye(70)),
    "Conv": (
        f"{HEAD} c (float[N, 8, 5, 5] x) => (float[N, 9, 3, 3] y) {{ y = Conv(x, w) }}",
        (9, 8, 3, 3),
        0,
        np.einsum("ij,hw->ijhw", np.eye(8), np.outer(np.arange(5) == 2, np.arange(5) == 2)),
    ),
}
GRIDS = [
    *("8bit", "6bit", "5bit", "4bit", "3bit", "2bit", "ternary", "binary"),
    *("8bit,asymmetric", "5bit,asymmetric", "2bit,asymmetric", "4bit,power", "3bit,tensor", "2bit,asymmetric,tensor"),
    *("4bit,block16", "3bit,asymmetric,block16", "binary,block32", "4bit,power,block16"),
]


def on_grid(build, model, grid, share):
    text, shape, axis, x = MODELS[model]
    module = build(text, {"w": shape})
    weight = module.tensor("w").detach() + 0.3
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(1)) < share if share < 1 else None
    found = TensorFormat(mask, fit_grid(weight, mask, level_target(parse_quant(grid), mask is not None, axis)))
    with torch.no_grad():
        module.tensor("w").copy_(found.project(weight))
    module.formats["w"] = found
    return module, x.astype(np.float32)


@pytest.mark.parametrize(("model", "grid", "share"), list(itertools.product(MODELS, GRIDS, [1.0, 0.3])))
def test_the_float_kernel_gives_back_every_grid_bit_for_bit(build, model, grid, share):
    module, x = on_grid(build, model, grid, share)
    written = write_model(module, {})
    check_folded(written.proto.SerializeToString())
    found = open_session(written.proto, threads=1).run(None, {"x": x})[0]
    with torch.no_grad():
        expected = module({"x": x})["y"].numpy()
    np.testing.assert_array_equal(found, expected)


def test_blocks_are_written_by_what_an_old_opset_has(build):
    text, shape, axis, x = MODELS["MatMul"]
    old = text.replace("17", "9").replace("y = MatMul(x, w)", "h = MatMul(x, w) u = Upsample(h, s) y = Neg(u)")
    old = old.replace("=> (float[N, 9] y)", "=> (float[N, 9] y) <float[2] s = {1.0, 1.0}>")  # cannot be converted
    module = build(old, {"w": shape})
    weight = module.tensor("w").detach()
    found = TensorFormat(None, fit_grid(weight, None, level_target(parse_quant("4bit,block16"), False, axis)))
    with torch.no_grad():
        module.tensor("w").copy_(found.project(weight))
    module.formats["w"] = found
    written = write_model(module, {}).proto
    assert written.opset_import[0].version == 9
    result = open_session(written, threads=1).run(None, {"x": x.astype(np.float32)})[0]
    np.testing.assert_array_equal(-result, module.tensor("w").detach().numpy())


@pytest.mark.parametrize(("model", "grid"), list(itertools.product(MODELS, GRIDS)))
def test_kernels_take_a_grid_exactly_or_say_why_not(build, calibrate, model, grid):
    module, x = on_grid(build, model, grid, 1.0)
    node = module.graph.nodes[0]
    for kernel in ("int8", "nbits"):
        objection = KERNELS[kernel].objection(module.graph, node, module.formats["w"])
        if objection:
            with pytest.raises(ExportError, match=kernel):
                write_model(module, {node.name: kernel})
            continue
        if kernel == "int8":
            calibrate(module, {node.name: kernel}, {"x": x})
        found = open_session(write_model(module, {node.name: kernel}).proto, threads=1).run(None, {"x": x})[0]
        with torch.no_grad():
            expected = module({"x": x})["y"].numpy()
        tolerance = np.abs(expected).max() / 100  # both kernels round what they multiply to 8 bits
        np.testing.assert_allclose(found, expected, atol=tolerance)


def test_codes_of_asymmetric_grids_take_their_true_width(build):
    text = f"{HEAD} m (float[N, 512] x) => (float[N, 512] y) {{ y = MatMul(x, w) }}"
    sizes = {}
    for grid in ("3bit", "3bit,asymmetric"):
        module = build(text, {"w": (512, 512)})
        weight = module.tensor("w").detach()
        found = TensorFormat(None, fit_grid(weight, None, level_target(parse_quant(grid), False, 1)))
        with torch.no_grad():
            module.tensor("w").copy_(found.project(weight))
        module.formats["w"] = found
        sizes[grid] = write_model(module, {}).tensors["w"].bytes
    assert sizes["3bit,asymmetric"] < sizes["3bit"] + 1000
