"""Matrix products with weights of a few bits each, against ONNX Runtime."""

import numpy as np
import onnx
import pytest
import torch

from toolchain.graph import load_graph
from toolchain.ops import find
from toolchain.ops.nbits import mat_mul_n_bits

ROWS, COLUMNS, BLOCK = 5, 72, 32
BLOCKS = -(-COLUMNS // BLOCK)


def tensors(bits, zero_points, kind):
    rng = np.random.default_rng(bits)
    found = {
        "a": rng.standard_normal((2, 3, COLUMNS)).astype(kind),
        "b": rng.integers(0, 256, (ROWS, BLOCKS, BLOCK * bits // 8)).astype(np.uint8),
        "s": (rng.random((ROWS, BLOCKS)) / 2**bits).astype(kind),
        "z": None,
    }
    if zero_points == "packed":
        found["z"] = rng.integers(0, 256, (ROWS, -(-BLOCKS * bits // 8))).astype(np.uint8)
    elif zero_points == "floats":
        found["z"] = (rng.random((ROWS, BLOCKS)) * 2**bits).astype(kind)
    return found | {"g": None, "c": rng.standard_normal(ROWS).astype(kind)}


# ONNX Runtime has no zero points of floats for 8 bits.
KINDS = [(bits, zero_points) for bits in (2, 4, 8) for zero_points in ("none", "packed", "floats")][:-1]


@pytest.mark.parametrize(("bits", "zero_points"), KINDS)
@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_products_agree_with_every_kind_of_zero_points(agree, bits, zero_points, kind):
    inputs = tensors(bits, zero_points, kind)
    constants = [name for name in ("b", "s", "z", "c") if inputs[name] is not None]
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if kind == "float32" else {"rtol": 1e-2, "atol": 5e-3}
    shape = {"K": COLUMNS, "N": ROWS, "bits": bits, "block_size": BLOCK}
    agree("MatMulNBits", inputs, domain="com.microsoft", constants=constants, **shape, **tolerance)


@pytest.mark.parametrize("change", [{"bits": 3}, {"weight_prepacked": 1}, {"inputs": ["a", "b", "s", "", "g"]}])
def test_what_has_no_exact_function_is_left_to_onnx_runtime(change):
    inputs = change.pop("inputs", ["a", "b", "s"])
    attributes = {"K": COLUMNS, "N": ROWS, "block_size": BLOCK} | change
    node = onnx.helper.make_node("MatMulNBits", inputs, ["y"], domain="com.microsoft", **attributes)
    infos = [onnx.helper.make_tensor_value_info(name, 1, [None]) for name in filter(None, inputs)]
    outputs = [onnx.helper.make_tensor_value_info("y", 1, [None])]
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.microsoft", 1)]
    graph = load_graph(
        onnx.helper.make_model(onnx.helper.make_graph([node], "g", infos, outputs), opset_imports=opsets)
    )
    assert find(graph.nodes[0]) is None


def test_the_first_factor_gets_its_gradient():
    found = {name: value for name, value in tensors(4, "packed", "float64").items() if value is not None}
    a, b, s, z, c = map(torch.from_numpy, found.values())

    def product(values):
        return mat_mul_n_bits(values, b, s, z, None, c, K=COLUMNS, N=ROWS, bits=4, block_size=BLOCK)

    assert torch.autograd.gradcheck(product, a.requires_grad_())
