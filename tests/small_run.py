"""A small model, compressed in some seconds with everything that belongs to a run: file, report, page."""

import numpy as np
import onnx
from onnx import numpy_helper, parser

from toolchain.pipeline import CompressResult, compress

CLASSIFIER = """
<ir_version: 8, opset_import: ["" : 13]>
classifier (float[N,8] x) => (float[N,4] logits)
{
    hidden = Gemm<transB = 1>(x, first_weight)
    active = Relu(hidden)
    logits = Gemm<transB = 1>(active, second_weight)
}
"""
SHAPES = {"first_weight": (64, 8), "second_weight": (4, 64)}
SAMPLES = 200


def write_small(folder):
    """Write ``model.onnx`` and labelled ``data.npz``, on which the model is right; return their paths."""
    rng = np.random.default_rng(0)
    proto = parser.parse_model(CLASSIFIER)
    weights = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    proto.graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in weights.items())
    onnx.save(proto, folder / "model.onnx")
    inputs = rng.standard_normal((SAMPLES, 8)).astype(np.float32)
    scores = np.maximum(inputs @ weights["first_weight"].T, 0) @ weights["second_weight"].T
    np.savez(folder / "data.npz", x=inputs, labels=scores.argmax(1))
    return folder / "model.onnx", folder / "data.npz"


def compress_small(folder, **options) -> CompressResult:
    """Compress the model in ``folder`` without training; more options as ``compress`` takes them."""
    model, data = write_small(folder)
    return compress(model, prune="2x", data=str(data), epochs=0, **options)
