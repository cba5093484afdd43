"""GroupQueryAttention against ONNX Runtime."""

import numpy as np
import onnx
import pytest
import torch

from toolchain.graph import load_graph
from toolchain.ops import find
from toolchain.ops.group_query_attention import group_query_attention

H, G, E = 4, 2, 16


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# Sequences, new tokens, places in the cache that comes in, tokens of each sequence, the most of these.
STEPS = {
    "first prompt": (2, 5, None, [5, 5], 5),
    "first prompt with padding": (2, 5, None, [5, 3], 5),
    "first prompt into a larger cache": (2, 5, 9, [5, 3], 5),
    "next token": (2, 1, 6, [7, 7], 7),
    "next token of sequences of several lengths": (2, 1, 6, [7, 4], 7),
    "next token into a larger cache": (2, 1, 12, [7, 4], 7),
    "more of a prompt": (1, 3, 6, [9], 9),
    "more of a prompt into a larger cache": (1, 3, 12, [9], 9),
}
OPTIONS = {
    "plain": {},
    "scaled": {"scale": 0.2},
    "rotated": {"do_rotary": 1},
    "rotated in neighbouring pairs": {"do_rotary": 1, "rotary_interleaved": 1},
    "within a window": {"local_window_size": 2},
    "capped": {"softcap": 1.2},
    "with a smooth softmax": {"smooth_softmax": 1},
    "both ways": {"causal": 0},
}


def inputs(step, *, packed=False, rotary=False, bias=False, sink=False, position_ids=None):
    batch, new, places, lengths, total = STEPS[step]
    q, k, v = noise(batch, new, H * E), noise(batch, new, G * E, seed=1), noise(batch, new, G * E, seed=2)
    past = None if places is None else (noise(batch, G, places, E, seed=3), noise(batch, G, places, E, seed=4))
    return {
        "q": np.concatenate([q, k, v], -1) if packed else q,
        "k": None if packed else k,
        "v": None if packed else v,
        "past_key": past and past[0],
        "past_value": past and past[1],
        "seqlens_k": np.array(lengths, np.int32) - 1,
        "total": np.array(total, np.int32),
        "cos": noise(40, E // 2, seed=5) if rotary else None,
        "sin": noise(40, E // 2, seed=6) if rotary else None,
        "position_ids": position_ids,
        "bias": noise(1, H, new, total, seed=7) if bias else None,
        "sink": noise(H, seed=8) if sink else None,
    }


RUN = {
    "opset": 17,
    "outputs": 3,
    "domain": "com.microsoft",
    "rtol": 1e-4,
    "atol": 1e-5,
    "num_heads": H,
    "kv_num_heads": G,
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("packed", [False, True])
def test_group_query_attention_agrees(agree, step, options, packed):
    given = inputs(step, packed=packed, rotary="rotated" in options)
    agree("GroupQueryAttention", given, **OPTIONS[options], **RUN)


@pytest.mark.parametrize("options", ["plain", "capped"])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("bias", "sink"), [(True, False), (False, True), (True, True)])
def test_biases_and_sinks_agree(agree, step, options, bias, sink):
    agree("GroupQueryAttention", inputs(step, bias=bias, sink=sink), **OPTIONS[options], **RUN)


@pytest.mark.parametrize("step", ["first prompt", "next token", "more of a prompt"])
def test_given_positions_agree(agree, step):
    positions = np.random.default_rng(9).integers(0, 30, STEPS[step][:2])
    agree("GroupQueryAttention", inputs(step, rotary=True, position_ids=positions), do_rotary=1, **RUN)


@pytest.mark.parametrize("step", ["first prompt with padding", "next token of sequences of several lengths"])
def test_gradients_are_right(step):
    given = {
        name: array if array is None else torch.from_numpy(array) for name, array in inputs(step, sink=True).items()
    }
    leaves = {name: x.double().requires_grad_() for name, x in given.items() if x is not None and x.is_floating_point()}

    def run(*tensors):
        values = given | dict(zip(leaves, tensors, strict=True)) | {"total": [STEPS[step][4]]}
        return group_query_attention(*values.values(), num_heads=H, kv_num_heads=G, output_count=3)

    assert torch.autograd.gradcheck(run, tuple(leaves.values()), fast_mode=True)


def test_rotation_without_angles_is_refused():
    q, k, v, *_, lengths, _ = [torch.from_numpy(x) for x in inputs("first prompt").values() if x is not None]
    with pytest.raises(ValueError, match="needs cos_cache"):
        group_query_attention(q, k, v, None, None, lengths, [5], do_rotary=1, num_heads=H, kv_num_heads=G)


@pytest.mark.parametrize(
    "call",
    [
        '<num_heads=2, kv_num_heads=1, k_quant_type="PER_TENSOR">(x, y, y, p, p, n, t)',
        "<num_heads=2, kv_num_heads=1, sliding_window_cache=1>(x, y, y, p, p, n, t)",
        "<num_heads=2, kv_num_heads=1, qk_output=1>(x, y, y, p, p, n, t)",
        "<num_heads=2, kv_num_heads=1>(x, y, y, p, p, n, t, , , , , , , , w, w)",
    ],
)
def test_what_the_cpu_kernel_keeps_to_itself_is_left_to_it(call):
    text = (
        '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> '
        "g (float[1,2,32] x, float[1,2,16] y, float[1,1,4,16] p, int32[1] n, int32 t, float[16] w) => (float[1,2,n] z) "
        f"{{ z = com.microsoft.GroupQueryAttention{call} }}"
    )
    (node,) = load_graph(onnx.parser.parse_model(text)).nodes
    assert find(node) is None
