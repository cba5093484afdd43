"""ONNX operators, one function each; importing this package registers them all."""

from toolchain.ops import (  # noqa: F401 - importing registers
    activation,
    arithmetic,
    convolution,
    creation,
    indexing,
    linear,
    logic,
    normalization,
    pooling,
    quantization,
    reduction,
    resize,
    shape,
    trigonometry,
)
from toolchain.ops.dtypes import to_tensor
from toolchain.ops.registry import Implementation, check_supported, find, op, registered

__all__ = ["Implementation", "check_supported", "find", "op", "registered", "to_tensor"]
