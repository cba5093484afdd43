import json
from pathlib import Path

import numpy as np
import pytest

from toolchain.bench import probe
from toolchain.bench.measurement import (
    Settings,
    bench,
    host_cases,
    prepare_inputs,
    provider_name,
    save_feeds,
    short_names,
)
from toolchain.errors import BenchError, DataError, ModelError
from toolchain.progress import NullProgress

CUDA = "CUDAExecutionProvider"


def test_every_combination_is_a_case_with_all_figures(models):
    settings = Settings(threads=(1, 2), batches=(1, 3), seconds=0.1, profile=True)

    document = bench(models, settings, NullProgress())

    json.dumps(document, allow_nan=False)
    assert [(case["threads"], case["batch"]) for case in document["cases"]] == [(1, 1), (1, 3), (2, 1), (2, 3)]
    assert document["models"][0]["file_bytes"] == models[0].stat().st_size > document["models"][1]["file_bytes"]
    assert document["environments"]["this machine"]["cpu"]
    for case in document["cases"]:
        original, compressed = case["models"]
        assert case["error"] is original["error"] is compressed["error"] is None
        for model in case["models"]:
            assert 0 < model["p50_ci95_ms"][0] <= model["p50_ms"] <= model["p50_ci95_ms"][1]
            assert model["p50_ms"] <= model["p90_ms"] <= model["p99_ms"]
            assert model["throughput_per_s"] == pytest.approx(1e3 * case["batch"] / model["mean_ms"])
            assert model["load_ms"] > 0
        assert "speedup" not in original
        assert compressed["speedup"] == pytest.approx(original["p50_ms"] / compressed["p50_ms"])
        assert compressed["speedup_ci95"][0] <= compressed["speedup"] <= compressed["speedup_ci95"][1]
        assert [row["op"] for row in compressed["layers"]] == ["FusedGemm", "Gemm"]


def test_progress_says_what_is_done_and_never_falls(models):
    seen = []

    class Seen(NullProgress):
        def update(self, done, figures):
            seen.append((done, figures["now:"]))

    bench(models[:1], Settings(threads=(1,), seconds=0.1), Seen())

    assert [done for done, _what in seen] == sorted(done for done, _what in seen)
    assert "cpu, 1 thread, batch 1: timing" in [what for _done, what in seen]
    assert seen[-1][0] == 1.0


def test_when_the_original_fails_the_others_are_still_timed(models, unknown_operator):
    document = bench([unknown_operator, *models], Settings(threads=(1,), seconds=0.1), NullProgress())

    first, second, third = document["cases"][0]["models"]
    assert first["error"]["stage"] == "load"
    assert second["p50_ms"] > 0
    assert third["p50_ms"] > 0
    assert "speedup" not in third


def test_a_provider_that_is_not_installed_is_an_error_before_anything_is_measured(models):
    with pytest.raises(BenchError, match=f"does not offer {CUDA}, it offers .*CPUExecutionProvider"):
        bench(models, Settings(providers=(CUDA,)), NullProgress())


@pytest.mark.parametrize(
    ("short", "name"),
    [
        ("cpu", "CPUExecutionProvider"),
        ("CUDA", CUDA),
        ("tensorrt", "TensorrtExecutionProvider"),
        ("openvino", "OpenVINOExecutionProvider"),
        ("xnnpack", "XnnpackExecutionProvider"),
        ("coreml", "CoreMLExecutionProvider"),
    ],
)
def test_providers_have_short_names(short, name):
    assert provider_name(short) == name


def test_an_unknown_provider_is_an_error_with_the_nearest_name():
    with pytest.raises(BenchError, match="knows no execution provider 'tensort'") as caught:
        provider_name("tensort")

    assert "tensorrt" in caught.value.hint


def test_models_with_other_inputs_are_not_compared(models, make_model):
    other = make_model('<ir_version: 8, opset_import: ["" : 13]> g (float[N,6] z) => (float[N,6] y) { y = Relu(z) }')

    with pytest.raises(DataError, match=r"model\.onnx takes the inputs 'z', .*original\.onnx takes 'x'"):
        prepare_inputs([*models, other], Settings())


def test_what_is_no_model_is_an_error(models, tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"not a model")

    with pytest.raises(ModelError, match=r"broken\.onnx is not an ONNX file"):
        prepare_inputs([*models, tmp_path / "broken.onnx"], Settings())


def test_names_are_as_long_as_it_takes_to_tell_files_apart():
    assert short_names([Path("a/m.onnx"), Path("a/n.onnx")]) == ["m.onnx", "n.onnx"]
    assert short_names([Path("a/m.onnx"), Path("b/m.onnx")]) == ["a/m.onnx", "b/m.onnx"]
    assert short_names([Path("m.onnx"), Path("m.onnx")]) == ["m.onnx (1)", "m.onnx (2)"]


def test_values_that_would_have_to_be_pickled_are_not_fed(tmp_path):
    with pytest.raises(DataError, match="input 'x' is object"):
        save_feeds({"x": np.array([object()])}, tmp_path / "feeds.npz")


def timed(**case):
    """Return what the probe says of one model that ran on a GPU."""
    layers = [
        {"name": "conv", "op": "Conv", "provider": CUDA, "ms": 1.0},
        {"name": "up", "op": "Resize", "provider": probe.CPU, "ms": 2.0},
    ]
    found = {
        "provider": CUDA,
        "device": "GPU",
        "threads": 1,
        "batch": 4,
        "transfers": "out",
        "error": None,
        "rounds_ms": [[[2.0], [2.0], [4.0]]],
        "loads_ms": [[10.0]],
        "preempted": None,
        "timed": [0],
        "timing_s": 1.0,
        "models": [{"name": "m", "error": None, "memory": None, "layers": layers, "outputs": None}],
    }
    return {"environment": {}, "cases": [found | case]}


def test_nodes_that_fell_back_to_the_cpu_are_named():
    (case,) = host_cases("a board", timed())

    (model,) = case["models"]
    assert (case["host"], case["transfers"]) == ("a board", "out")
    assert model["fallback"] == [{"name": "up", "op": "Resize"}]
    assert model["p50_ms"] == 2.0
    assert model["throughput_per_s"] == pytest.approx(1500)


def test_a_case_that_was_not_timed_has_its_error_and_no_figures():
    (case,) = host_cases("a board", timed(timed=[], error="does not offer it"))

    assert case["error"] == "does not offer it"
    assert "p50_ms" not in case["models"][0]
