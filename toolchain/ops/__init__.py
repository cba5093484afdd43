"""ONNX operators, one function each; importing this package registers them all."""

from toolchain.ops import convolution, elementwise, normalization, pooling, shape  # noqa: F401 - importing registers
from toolchain.ops.registry import Implementation, check_supported, find, op, registered

__all__ = ["Implementation", "check_supported", "find", "op", "registered"]
