"""Gathered channels compute what the module computes, with a weight as small as its groups."""

import numpy as np
import pytest
import torch

from passes.constraints import Budget, TopK
from toolchain.errors import ExportError
from toolchain.export import activation_values, check_folded, verify, write_model
from toolchain.export.folding import optimized_graph
from toolchain.formats import Grid, TensorFormat
from toolchain.graph import find_weights
from toolchain.graph.layout import find_layouts
from toolchain.structures import parse_structure

HEAD = '<ir_version: 8, opset_import: ["" : 17]> net '
CONV = (
    HEAD
    + "(float[N, 64, 9, 9] x) => (float[N, 64, 5, 5] y) "
    + "{ [n] y = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w, b) }"
)
PLAIN = HEAD + "(float[N, 64, 9, 9] x) => (float[N, 64, 7, 7] y) { [n] y = Conv (x, w) }"
LINE = HEAD + '(float[N, 64, 9] x) => (float[N, 64, 9] y) { [n] y = Conv <auto_pad = "SAME_UPPER"> (x, w, b) }'
GEMM = HEAD + "(float[N, 64] x) => (float[N, 256] y) { [n] y = Gemm (x, w, b) }"
GEMM_T = HEAD + "(float[N, 64] x) => (float[N, 256] y) { [n] y = Gemm <transB = 1> (x, w) }"
MATMUL = HEAD + "(float[N, 64] x) => (float[N, 256] y) { [n] y = MatMul (x, w) }"
TOKENS = HEAD + "(float[N, 3, 2, 64] x) => (float[N, 3, 2, 256] y) { [n] y = MatMul (x, w) }"
CASES = {
    "conv": (CONV, {"w": (64, 64, 3, 3), "b": (64,)}, (3, 64, 9, 9)),
    "conv without bias": (PLAIN, {"w": (64, 64, 3, 3)}, (3, 64, 9, 9)),
    "conv over a line": (LINE, {"w": (64, 64, 3), "b": (64,)}, (2, 64, 9)),
    "gemm": (GEMM, {"w": (64, 256), "b": (256,)}, (5, 64)),
    "gemm transposed": (GEMM_T, {"w": (256, 64)}, (5, 64)),
    "matmul": (MATMUL, {"w": (64, 256)}, (5, 64)),
    "matmul of four dimensions": (TOKENS, {"w": (64, 256)}, (5, 3, 2, 64)),
}


def batch(shape):
    return {"x": np.random.default_rng(7).standard_normal(shape).astype(np.float32)}


def prune(module, structure, kept, levels=None):
    """Put weight ``w`` into the structure, and on a grid of ``levels`` where there are some."""
    layout = find_layouts(module.graph, find_weights(module.graph))["w"]
    weight = module.tensor("w")
    budget = Budget(("w",), round(kept * weight.numel()), parse_structure(structure))
    mask = TopK((budget,), layouts={"w": layout}).fit({"w": weight.detach()}, {}, {})["w"].mask
    grid = None
    if levels is not None:
        others = [axis for axis in range(weight.ndim) if axis != layout.outputs]
        grid = Grid(levels, weight.detach().abs().amax(others) / levels[-1], axis=layout.outputs)
    found = TensorFormat(mask, grid)
    with torch.no_grad():
        weight.copy_(found.project(weight))
    module.formats["w"] = found


def kinds(written):
    return [node.op_type for node in optimized_graph(written.proto.SerializeToString()).node]


@pytest.mark.parametrize("levels", [None, (-2, -1, 1, 2)], ids=["float", "levels"])
@pytest.mark.parametrize(("structure", "kept"), [("groups", 0.25), ("groups", 0.3), ("column", 0.4)])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_gathered_channels_give_the_modules_results(build, case, structure, kept, levels):
    text, shapes, feed = case
    module = build(text, shapes)
    if structure == "column" and module.tensor("w").ndim > 2:
        with torch.no_grad():
            module.tensor("w")[:, 1::2] *= 1e-3  # whole channels, not single kernel positions
        kept = 0.45
    prune(module, structure, kept, levels)
    written = write_model(module, {"n": "gathered"})
    data = written.proto.SerializeToString()
    check_folded(data)
    parity = verify(data, module, [batch(feed)])
    assert parity.max_abs_error <= 0.01 * parity.tolerance
    assert written.tensors["w"].kernel == "gathered"
    assert "Gather" in kinds(written)


def test_the_stored_weight_is_as_small_as_its_groups(build):
    module = build(*CASES["conv"][:2])
    prune(module, "groups", 0.25)
    written = write_model(module, {"n": "gathered"})
    (weight,) = [item for item in written.proto.graph.initializer if item.name == "w"]
    assert list(weight.dims) == [64, 16, 3, 3]
    assert written.tensors["w"].bytes < 1.02 * 64 * 64 * 9


def test_groups_of_neighbours_need_no_gather_behind(build):
    module = build(*CASES["conv"][:2])
    mask = torch.zeros(4, 16, 64, dtype=torch.bool)
    for group in range(4):
        mask[group, :, group::4] = True
    module.formats["w"] = TensorFormat(mask.view(64, 64, 1, 1).expand(64, 64, 3, 3).contiguous())
    with torch.no_grad():
        module.tensor("w").mul_(module.formats["w"].mask)
    written = write_model(module, {"n": "gathered"})
    assert kinds(written).count("Gather") == 1
    verify(written.proto.SerializeToString(), module, [batch((3, 64, 9, 9))])


def test_a_residual_stream_stays_in_the_order_of_its_groups(build):
    text = HEAD + (
        "(float[N, 64, 9, 9] x) => (float[N, 64] z) { [a] p = Conv (x, v) [n] q = Conv (x, w) s = Add (p, q) "
        "r = Relu (s) [c] t = Conv (r, u) m = Add (r, t) g = GlobalAveragePool (m) z = Flatten (g) }"
    )
    module = build(text, dict.fromkeys("vwu", (64, 64, 1, 1)))
    layouts = find_layouts(module.graph, find_weights(module.graph))
    weights = {name: module.tensor(name).detach() for name in "vwu"}
    budget = Budget(tuple(weights), 3 * 64 * 16, parse_structure("groups"))
    module.formats.update(TopK((budget,), layouts=layouts).fit(weights, {}, {}))
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(module.formats[name].project(weight))
    written = write_model(module, dict.fromkeys("anc", "gathered"))
    parity = verify(written.proto.SerializeToString(), module, [batch((2, 64, 9, 9))])
    assert parity.max_abs_error <= 0.01 * parity.tolerance
    assert kinds(written).count("Gather") == 4  # one before each convolution, one at the end
    assert not {"Add", "Relu"} & set(kinds(written))  # a part of the convolutions


def test_nodes_around_may_run_in_int8(build, calibrate, compress):
    text = HEAD + (
        "(float[N, 64] x) => (float[N, 256] z) { [a] s = Gemm <transB = 1> (x, v) [n] y = Gemm (x, w, b) "
        "[c] t = Gemm <transB = 1> (y, u) z = Concat <axis = 1> (s, t) }"
    )
    module = build(text, {"v": (64, 64), "w": (64, 256), "b": (256,), "u": (192, 256)})
    compress(module, 1.0, (-2, -1, 1, 2))
    del module.formats["w"]
    prune(module, "groups", 0.25)
    kernels = {"a": "int8", "n": "gathered", "c": "int8"}
    calibrate(module, kernels, batch((5, 64)))
    assert activation_values(module.graph, kernels) == ("x", "y")
    written = write_model(module, kernels)
    parity = verify(written.proto.SerializeToString(), module, [batch((5, 64))])
    assert parity.max_abs_error <= 0.2 * parity.tolerance
    assert "QGemm" in kinds(written)


def test_nodes_that_share_a_weight_share_what_is_stored(build):
    text = HEAD + "(float[N, 64] x) => (float[N, 64] y) { [a] h = MatMul (x, w) [b] y = MatMul (h, w) }"
    module = build(text, {"w": (64, 64)})
    prune(module, "groups", 0.25)
    written = write_model(module, {"a": "gathered", "b": "gathered"})
    verify(written.proto.SerializeToString(), module, [batch((2, 64))])
    assert sum(item.name == "w" for item in written.proto.graph.initializer) == 1


@pytest.mark.parametrize(
    ("text", "shapes", "structure", "reason"),
    [
        (MATMUL, {"w": (64, 256)}, "unstructured", "its zeros do not lie in channels of groups"),
        (MATMUL, {"w": (64, 256)}, "block4x1", "its zeros do not lie in channels of groups"),
        (
            HEAD + "(float[N, 64] x) => (float[N, 256] y) { [n] y = Gemm <alpha = 2.0> (x, w) }",
            {"w": (64, 256)},
            "groups",
            "alpha, beta or transA are set",
        ),
        (
            HEAD + "(float[N, 64, 5] x) => (float[N, 64, 3] y) { [n] y = Conv <group = 2> (x, w) }",
            {"w": (64, 32, 3)},
            "column",
            "groups or a batch already",
        ),
        (
            HEAD + "(float[N, 3, 64] x) => (float[N, 3, 8] y) { [n] y = MatMul (x, w) }",
            {"w": (3, 64, 8)},
            "column",
            "groups or a batch already",
        ),
        (
            HEAD + "(float[N, 1, 64] x) => (float[N, 1, 8] y) { [n] y = MatMul (x, w) }",
            {"w": (1, 64, 8)},
            "column",
            "its weight has 3 dimensions, not 2",
        ),
        (
            HEAD + "(float[64, N] x) => (float[256, N] y) { [n] y = MatMul (w, x) }",
            {"w": (256, 64)},
            "groups",
            "its second input is not the weight",
        ),
    ],
)
def test_a_node_that_cannot_gather_says_why(build, text, shapes, structure, reason):
    module = build(text, shapes)
    prune(module, structure, 0.25)
    with pytest.raises(ExportError, match=reason):
        write_model(module, {"n": "gathered"})


def test_a_weight_that_was_not_pruned_is_refused(build, compress):
    module = build(MATMUL, {"w": (64, 256)})
    compress(module, 1.0, (-1, 1))
    with pytest.raises(ExportError, match="its weight is not pruned"):
        write_model(module, {"n": "gathered"})
