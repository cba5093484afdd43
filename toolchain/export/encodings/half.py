"""Float32 values that float16 holds exactly, in half the bytes."""

import numpy as np
from onnx import TensorProto

from toolchain.export.builder import Builder
from toolchain.export.encodings.content import Content


def is_half(array: np.ndarray) -> bool:
    """Return whether float16 holds every value of a float32 array exactly."""
    with np.errstate(over="ignore"):
        return np.array_equal(array.astype(np.float16).astype(np.float32), array)


def encode(builder: Builder, content: Content, output: str) -> bool:
    """Add a float16 initializer and a Cast, where that is exact."""
    if content.array.dtype != np.float32 or not is_half(content.array):
        return False
    builder.cast(builder.tensor(content.array.astype(np.float16)), TensorProto.FLOAT, output)
    return True
