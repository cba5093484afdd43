import numpy as np

from toolchain.bench.differences import difference
from toolchain.bench.render_devices import render_devices


def with_device(document, **facts):
    """Return the document with a device, the outputs of whose two models differ by nothing and by 0.5."""
    environment = {
        "cpu": "Cortex-A72",
        "governor": None,
        "temperature_c": None,
        "temperature_after_c": None,
        "cores": 4,
        "onnxruntime": "1.20.0",
        "python": "3.9.2",
        "platform": "Linux-aarch64",
    }
    document["environments"]["pi\x1b[2J"] = environment | facts
    document["cases"][0]["host"] = "pi\x1b[2J"
    there = np.array([[1, 3]], np.float32)
    for model, here in zip(document["cases"][0]["models"], (there, there + np.float32(0.5)), strict=True):
        model["differences"] = [difference("logits", there, here)]
    return document


def test_this_machine_alone_needs_no_words(make_document):
    assert render_devices(make_document()) == ""


def test_the_device_and_its_outputs_are_described(make_document):
    text = render_devices(with_device(make_document()))
    assert "Cortex-A72, 4 cores, governor unknown, temperature unknown, onnxruntime 1.20.0, Python 3.9.2" in text
    lines = {line.split(":")[0]: line.split() for line in text.splitlines() if ": logits" in line}
    assert lines["a.onnx"][2:] == ["none", "100.00", "%"]
    assert lines["b.onnx"][2:] == ["0.5", "0.14", "100.00", "%"]


def test_temperature_before_and_after_is_told(make_document):
    text = render_devices(
        with_device(make_document(), temperature_c=51.4, temperature_after_c=63.6, governor="performance")
    )
    assert "governor performance" in text
    assert "51 °C before and 64 °C after" in " ".join(text.split())


def test_an_output_that_cannot_be_compared_says_why(make_document):
    document = with_device(make_document())
    document["cases"][0]["models"][1]["differences"] = [difference("logits", np.ones(2), np.ones(3))]
    assert "is float64[2] there, float64[3] here" in " ".join(render_devices(document).split())


def test_a_name_cannot_steer_the_terminal(make_document):
    assert "\x1b" not in render_devices(with_device(make_document()))
