"""Writes a compressed module into an ONNX file that stock ONNX Runtime runs."""

from toolchain.export.activations import activation_values
from toolchain.export.draft import StoredTensor
from toolchain.export.writer import WrittenModel, write_model

__all__ = ["StoredTensor", "WrittenModel", "activation_values", "write_model"]
