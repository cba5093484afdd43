"""ONNX operators, one function each; importing this package registers them all."""

from toolchain.ops import (  # noqa: F401 - importing registers
    activation,
    arithmetic,
    control,
    convolution,
    creation,
    indexing,
    linear,
    logic,
    normalization,
    pooling,
    quantization,
    recurrent,
    reduction,
    resize,
    sequence,
    shape,
    signal,
    streaming,
    trigonometry,
)
from toolchain.ops.dtypes import to_tensor
from toolchain.ops.registry import Implementation, Operator, find, op, registered

__all__ = ["Implementation", "Operator", "find", "op", "registered", "to_tensor"]
