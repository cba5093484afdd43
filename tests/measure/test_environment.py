import onnxruntime

from toolchain.measure.environment import cpu_model, environment_section


def test_the_environment_names_processor_and_versions():
    environment = environment_section()

    assert environment["cpu"] == cpu_model() != ""
    assert environment["onnxruntime"] == onnxruntime.__version__
    assert {"cores", "platform", "python", "onnx", "torch", "numpy"} <= set(environment)
