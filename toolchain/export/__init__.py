"""Writes a compressed module into an ONNX file that stock ONNX Runtime runs."""

from toolchain.export.activations import activation_formats, activation_values
from toolchain.export.check import check_export
from toolchain.export.choice import KernelChoice, Wish, choose_kernels, could_be_int8, kernel_names
from toolchain.export.draft import StoredTensor
from toolchain.export.folding import check_folded
from toolchain.export.kernels import held_bits
from toolchain.export.layers import time_dense
from toolchain.export.lean import shorten
from toolchain.export.parity import OutputParity, Parity, verify
from toolchain.export.products import add_rescalings, move_biases_onto_steps
from toolchain.export.sensitivity import LOSS_SECONDS, Loss, Meter, find_loss
from toolchain.export.targets import TARGETS, Activations, Objective, TargetName
from toolchain.export.writer import WrittenModel, write_model

__all__ = [
    "LOSS_SECONDS",
    "TARGETS",
    "Activations",
    "KernelChoice",
    "Loss",
    "Meter",
    "Objective",
    "OutputParity",
    "Parity",
    "StoredTensor",
    "TargetName",
    "Wish",
    "WrittenModel",
    "activation_formats",
    "activation_values",
    "add_rescalings",
    "check_export",
    "check_folded",
    "choose_kernels",
    "could_be_int8",
    "find_loss",
    "held_bits",
    "kernel_names",
    "move_biases_onto_steps",
    "shorten",
    "time_dense",
    "verify",
    "write_model",
]
