"""Where the figures were measured."""

import platform
from importlib.metadata import version
from pathlib import Path

import torch

from toolchain.measure.session import available_cores

PACKAGES = ("numpy", "onnx", "onnxruntime", "torch")
CPU_INFO = Path("/proc/cpuinfo")  # Linux; platform.processor() is empty there


def environment_section() -> dict[str, str | int]:
    """Return the report's ``environment`` section: processor, cores, GPU where there is one, and versions."""
    found: dict[str, str | int] = {"cpu": cpu_model(), "cores": available_cores()}
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name(0)
    found |= {"platform": platform.platform(), "python": platform.python_version()}
    return found | {name: version(name) for name in PACKAGES}


def cpu_model() -> str:
    """Return the processor's name, or its architecture where the system does not tell."""
    lines = CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines() if CPU_INFO.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), "") or platform.processor() or platform.machine()
