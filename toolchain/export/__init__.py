"""Writes a compressed module into an ONNX file that stock ONNX Runtime runs."""

from toolchain.export.activations import activation_formats, activation_values
from toolchain.export.choice import KernelChoice, choose_kernels
from toolchain.export.draft import StoredTensor
from toolchain.export.folding import check_folded
from toolchain.export.layers import time_dense
from toolchain.export.lean import shorten
from toolchain.export.parity import OutputParity, Parity, verify
from toolchain.export.writer import WrittenModel, write_model

__all__ = [
    "KernelChoice",
    "OutputParity",
    "Parity",
    "StoredTensor",
    "WrittenModel",
    "activation_formats",
    "activation_values",
    "check_folded",
    "choose_kernels",
    "shorten",
    "time_dense",
    "verify",
    "write_model",
]
