"""ONNX operators, one function each; importing this package registers them all."""

from toolchain.ops import (  # noqa: F401 - importing registers
    activation,
    arithmetic,
    attention,
    cache,
    casting,
    control,
    convolution,
    creation,
    cumulative,
    group_query_attention,
    indexing,
    integer,
    linear,
    logic,
    losses,
    microsoft,
    microsoft_attention,
    microsoft_products,
    nbits,
    normalization,
    pooling,
    qgemm,
    qlinear,
    quantization,
    recurrent,
    reduction,
    regions,
    resize,
    rotary,
    sampling,
    selection,
    sequence,
    shape,
    signal,
    streaming,
    trigonometry,
)
from toolchain.ops.dtypes import to_numpy, to_tensor
from toolchain.ops.registry import Implementation, Operator, find, op, registered

__all__ = ["Implementation", "Operator", "find", "op", "registered", "to_numpy", "to_tensor"]
