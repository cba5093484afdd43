"""Where the figures were measured."""

from importlib.metadata import PackageNotFoundError, version

from toolchain.bench import probe

PACKAGES = ("numpy", "onnx", "onnxruntime", "torch")


def environment_section() -> dict[str, str | int]:
    """Return the report's ``environment`` section: processor, cores, GPU where there is one, and versions."""
    machine = probe.environment()
    found: dict[str, str | int] = {key: machine[key] for key in ("cpu", "cores", "gpu", "platform", "python")}
    if found["gpu"] is None:
        del found["gpu"]
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a report can be made without torch
            continue
    return found
