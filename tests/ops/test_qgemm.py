"""Attention on quantized tensors, against ONNX Runtime."""

import numpy as np
import pytest

BATCH, LENGTH, WIDTH, HEADS, PAST = 2, 5, 12, 3, 4


@pytest.mark.parametrize(("x_kind", "w_kind"), [("uint8", "int8"), ("uint8", "uint8")])
@pytest.mark.parametrize("per_column", [False, True])
def test_quantized_attention_agrees(agree, x_kind, w_kind, per_column):
    rng = np.random.default_rng(0)
    columns = (3 * WIDTH,) if per_column else ()

    def levels(kind, *shape):
        return np.asarray(rng.integers(0, 256, shape) + np.iinfo(kind).min).astype(kind)

    inputs = {
        "x": levels(x_kind, BATCH, LENGTH, WIDTH),
        "w": levels(w_kind, WIDTH, 3 * WIDTH),
        "b": rng.standard_normal(3 * WIDTH).astype(np.float32),
        "sx": np.array(0.01, np.float32),
        "sw": np.asarray(rng.random(columns) * 0.02 + 0.001, np.float32),
        "mask": np.array([5, 3], np.int32),
        "zx": levels(x_kind),
        "zw": levels(w_kind, *columns),
    }
    agree("QAttention", inputs, domain="com.microsoft", num_heads=HEADS, rtol=1e-4, atol=1e-5)
    past = rng.standard_normal((2, BATCH, HEADS, PAST, WIDTH // HEADS)).astype(np.float32)
    inputs |= {"mask": None, "past": past}
    attributes = {"num_heads": HEADS, "unidirectional": 1, "outputs": 2}
    agree("QAttention", inputs, domain="com.microsoft", rtol=1e-4, atol=1e-5, **attributes)
