import importlib.metadata

import onnxruntime

from toolchain.bench import probe
from toolchain.measure.environment import environment_section


def test_the_environment_names_processor_and_versions():
    environment = environment_section()

    assert environment["cpu"] == probe.cpu_model() != ""
    assert environment["onnxruntime"] == onnxruntime.__version__
    assert {"cores", "platform", "python", "onnx", "torch", "numpy"} <= set(environment)


def test_a_package_that_is_not_installed_is_left_out(monkeypatch):
    def version(name):
        if name == "torch":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr("toolchain.measure.environment.version", version)

    environment = environment_section()

    assert "torch" not in environment
    assert environment["onnx"] == "1.0"
