import sys

import boards
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

from toolchain.bench import remote
from toolchain.bench.hosts import parse_host
from toolchain.bench.measurement import Settings
from toolchain.bench.remote import Remote, bench_on, how_it_ended
from toolchain.bench.transport import Ended
from toolchain.errors import HostError
from toolchain.progress import NullProgress

MODEL = """
<ir_version: 8, opset_import: ["" : 13]>
model (float[N,4] x) => (float[N,3] scores) { scores = MatMul(x, weight) }
"""
QUICK = Settings(threads=(1,), seconds=0.1)


def save(path, seed, external=None):
    proto = parser.parse_model(MODEL)
    values = np.random.default_rng(seed).standard_normal((4, 3)).astype(np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(values, "weight"))
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"save_as_external_data": True, "location": external, "size_threshold": 0} if external else {}
    onnx.save(proto, path, **options)
    return path


@pytest.fixture
def models(tmp_path):
    return save(tmp_path / "a.onnx", 0), save(tmp_path / "b.onnx", 1)


def measure(server, models, python=sys.executable, settings=QUICK, **options):
    return bench_on([Remote(parse_host(server.url), str(python), **options)], models, settings, NullProgress())


def refusal(*arguments, **options):
    document, (error,) = measure(*arguments, **options)
    assert not document["cases"]
    assert isinstance(error, HostError)
    return error


def test_figures_and_outputs_come_back_and_nothing_stays(anywhere, models):
    document, failed = measure(anywhere, models)
    assert not failed
    (case,) = document["cases"]
    assert case["host"] == anywhere.url
    assert case["models"][1]["speedup"] > 0
    assert [model["differences"][0]["max_abs"] for model in case["models"]] == [0, 0]
    assert document["environments"][anywhere.url]["onnxruntime"] == onnxruntime.__version__
    assert not document["notes"]
    assert not list(anywhere.temporary.iterdir())


def test_every_case_has_its_own_outputs(device, models):
    document, _ = measure(device, models, settings=Settings(threads=(1,), batches=(1, 5), seconds=0.1))
    assert [case["batch"] for case in document["cases"]] == [1, 5]
    assert all(model["differences"][0]["max_abs"] == 0 for case in document["cases"] for model in case["models"])


def test_models_with_odd_names_and_weights_in_other_files_are_copied(device, tmp_path):
    odd = "a 'b' \"c\" $(touch hole) é"
    model = save(tmp_path / odd / f"{odd}.onnx", 0, external=f"{odd}.data")
    document, failed = measure(device, [model])
    assert not failed
    assert document["cases"][0]["models"][0]["differences"][0]["max_abs"] == 0
    assert not list(device.temporary.iterdir())


def test_outputs_that_differ_there_are_found(device, models, tmp_path):
    python = boards.strange_python(tmp_path / "python", boards.ANOTHER_PROCESSOR)
    document, _ = measure(device, models, python)
    (output,) = document["cases"][0]["models"][1]["differences"]
    assert output["max_relative"] == pytest.approx(0.25)
    assert output["top1_agreement"] == 1


def test_a_python_without_packages_is_told_with_what_to_install(anywhere, models, tmp_path):
    python, packages = boards.bare_python(tmp_path / "python")
    error = refusal(anywhere, models, python)
    assert "has no numpy" in str(error)
    assert f"{python} -m pip install numpy onnxruntime=={onnxruntime.__version__}" in error.hint
    (packages / "numpy.py").touch()
    assert "has no onnxruntime" in str(refusal(anywhere, models, python))
    assert not list(anywhere.temporary.iterdir())


def test_the_python_on_the_path_of_the_device_is_the_default(models, tmp_path):
    python, _ = boards.bare_python(tmp_path / "python")
    _, (error,) = bench_on(
        [Remote(parse_host(f"env PATH={python.parent}:/usr/bin:/bin"))], models, QUICK, NullProgress()
    )
    assert "has no numpy" in str(error)


def test_a_package_for_another_processor_is_told(device, models, tmp_path):
    python, packages = boards.bare_python(tmp_path / "python")
    (packages / "numpy.py").write_text("import os; os.kill(os.getpid(), 4)")
    error = refusal(device, models, python)
    assert "SIGILL" in str(error)
    assert "another processor" in error.hint


def test_another_version_there_is_noted(device, models, tmp_path):
    python = boards.strange_python(tmp_path / "python", boards.OTHER_VERSION)
    document, failed = measure(device, models, python)
    assert not failed
    (note,) = document["notes"]
    assert f"onnxruntime 1.2.3, this machine {onnxruntime.__version__}" in note


def test_a_model_that_only_loads_here_names_both_versions(device, models, tmp_path):
    code = boards.OTHER_VERSION + boards.KILLS_THE_SECOND_MODEL
    document, _ = measure(device, models, boards.strange_python(tmp_path / "python", code))
    message = document["cases"][0]["models"][1]["error"]["message"]
    assert f"onnxruntime 1.2.3 there; {onnxruntime.__version__} here runs it" in message


def test_a_session_that_dies_there_is_told_and_the_other_figures_survive(device, models, tmp_path):
    python = boards.strange_python(tmp_path / "python", boards.KILLS_THE_SECOND_MODEL)
    document, failed = measure(device, models, python)
    assert not failed
    first, second = document["cases"][0]["models"]
    assert first["p50_ms"] > 0
    assert first["differences"][0]["max_abs"] == 0
    assert "SIGKILL" in second["error"]["message"]
    assert "ran out of memory" in second["error"]["message"]
    assert "p50_ms" not in second


def test_a_measurement_that_dies_whole_costs_its_own_case_only(device, models, tmp_path):
    python = boards.strange_python(tmp_path / "python", boards.KILLS_THE_PROBE_ON_TWO_THREADS)
    document, failed = measure(device, models, python, Settings(threads=(2, 1), seconds=0.1))
    assert not failed
    dead, alive = document["cases"]
    assert "SIGKILL" in dead["error"]
    assert "says the board" in dead["error"]
    assert alive["models"][1]["speedup"] > 0
    assert not list(device.temporary.iterdir())


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        (Ended(-9, "", True), "the system killed it because memory ran out"),
        (Ended(-9, "", False), "SIGKILL, most likely because the machine ran out of memory"),
        (Ended(-4, "", False), "SIGILL"),
        (Ended(1, "Traceback\nMemoryError: 3 GiB\n", False), "ended with code 1: MemoryError: 3 GiB"),
    ],
)
def test_the_end_of_a_command_is_told_in_words(ended, words):
    assert words in how_it_ended(ended)


def test_an_answer_that_is_no_result_is_an_error(device, models, tmp_path):
    python = boards.strange_python(tmp_path / "python", boards.LIES)
    assert "no result of a measurement" in str(refusal(device, models, python))
    assert not list(device.temporary.iterdir())


def test_room_is_looked_for_before_anything_large_is_copied(device, models, monkeypatch):
    monkeypatch.setattr(remote, "SPARE", 1e15)
    error = refusal(device, models)
    assert "free in" in str(error)
    assert "--remote-folder" in error.hint


def test_a_machine_that_is_not_reached_leaves_the_others_their_figures(device, models):
    there = [Remote(parse_host(text), sys.executable) for text in ("ssh://127.0.0.1:1", device.url)]
    document, (error,) = bench_on(there, models, QUICK, NullProgress())
    assert "127.0.0.1:1" in str(error)
    assert [case["host"] for case in document["cases"]] == [device.url]
