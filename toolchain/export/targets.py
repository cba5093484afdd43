"""Targets: what a file may use that is to run there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import onnxruntime

from toolchain.export.sessions import CPU

TargetName = Literal["cpu", "cuda", "tensorrt", "portable"]
Objective = Literal["latency", "size"]
Activations = Literal["static", "dynamic", "none"]


@dataclass(frozen=True)
class Target:
    """Where a file is to run.

    Attributes:
        provider: the execution provider of ONNX Runtime that kernels are timed on.
        without: why a kernel is not used there, by its name.
    """

    provider: str
    without: Mapping[str, str] = field(default_factory=dict)

    @property
    def can_be_timed(self) -> bool:
        """Whether the installed runtime has the provider."""
        return self.provider in onnxruntime.get_available_providers()


TARGETS: dict[str, Target] = {
    "cpu": Target(CPU),
    "cuda": Target(
        "CUDAExecutionProvider",
        {
            "int8": "ONNX Runtime has no int8 convolutions and products on CUDA, it runs floats",
            "gathered_int8": "ONNX Runtime has no int8 convolutions on CUDA",
            "dynamic": "ONNX Runtime has no DynamicQuantizeLinear on CUDA",
        },
    ),
    "tensorrt": Target(
        "TensorrtExecutionProvider",
        {
            "int8": "TensorRT takes 8-bit activations around zero alone, and these have a zero point",
            "gathered_int8": "TensorRT has no QLinearConv",
            "nbits": "TensorRT has no MatMulNBits",
            "dynamic": "TensorRT has no DynamicQuantizeLinear",
        },
    ),
    # Standard operators up to opset 18, which runtimes other than ONNX Runtime read too.
    "portable": Target(CPU, {"nbits": "MatMulNBits is no standard operator"}),
}
