import json
import subprocess
import sys
import time

import onnx
import onnx.parser
import pytest
from click.testing import CliRunner

from toolchain.cli import main

MODEL = '<ir_version: 8, opset_import: ["" : 13]> g (float[N,6] x) => (float[N,6] y) { y = Relu(x) }'
UNKNOWN = '<ir_version: 8, opset_import: ["" : 13, "ex" : 1]> g (float[N,6] x) => (float[N,6] y) { y = ex.Odd(x) }'

QUICK = ("--threads", "1", "--seconds", "0.1", "--quiet")

# Stands in the way of torch as an installation without it would.
WITHOUT_TORCH = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError(f"no {name} here")

sys.meta_path.insert(0, NoTorch())
from toolchain.cli import main
main(sys.argv[1:])
"""


def call(*arguments):
    return CliRunner().invoke(main, ["bench", *map(str, arguments)])


@pytest.fixture
def models(tmp_path):
    paths = tmp_path / "a.onnx", tmp_path / "b.onnx"
    for path in paths:
        onnx.save(onnx.parser.parse_model(MODEL), path)
    return paths


@pytest.fixture
def unknown(tmp_path):
    onnx.save(onnx.parser.parse_model(UNKNOWN), tmp_path / "unknown.onnx")
    return tmp_path / "unknown.onnx"


def test_the_tables_are_printed_and_the_exit_code_is_0(models):
    result = call(*models, *QUICK, "--profile")

    assert result.exit_code == 0, result.output
    assert "cpu, 1 thread, batch 1" in result.stdout
    assert "speedup (95 %)" in result.stdout
    assert "where the time goes: b.onnx" in result.stdout
    assert result.stderr == ""


def test_json_is_all_that_is_printed_and_can_be_compared_with_later(models, tmp_path):
    first = call(*models, *QUICK, "--json")
    (tmp_path / "old.json").write_text(first.stdout)

    again = call(*models, *QUICK, "--json", "--compare", tmp_path / "old.json")
    shown = call(*models, *QUICK, "--compare", tmp_path / "old.json")

    assert json.loads(first.stdout)["kind"] == "bench"
    changes = json.loads(again.stdout)["changes"]
    assert {change["figure"] for change in changes} == {"file", "gzip", "p50", "p90", "p99", "load", "speedup"}
    assert "then and now: cpu, 1 thread, batch 1" in shown.stdout


def test_one_model_alone_can_be_measured(models):
    (case,) = json.loads(call(models[0], *QUICK, "--json").stdout)["cases"]

    assert len(case["models"]) == 1
    assert case["models"][0]["p50_ms"] > 0


def test_a_model_that_does_not_load_is_exit_code_1_and_leaves_the_other_figures(models, unknown):
    result = call(models[0], unknown, models[1], *QUICK)

    assert result.exit_code == 1
    assert "error: ONNX Runtime cannot load unknown.onnx on cpu, at operator ex:Odd" in result.stderr
    assert "b.onnx" in result.stdout
    assert "x (" in result.stdout


def test_a_run_that_fails_on_assumed_dimensions_hints_at_them(tmp_path):
    text = """
        <ir_version: 8, opset_import: ["" : 13]>
        g (float[N,length] x) => (float[N,2,50] y) <int64[3] shape = {0,2,50}> { y = Reshape(x, shape) }
    """
    onnx.save(onnx.parser.parse_model(text), tmp_path / "open.onnx")

    result = call(tmp_path / "open.onnx", *QUICK)

    assert result.exit_code == 1
    assert "hint: input 'x': assumed length = 32; --shape sets it" in result.stderr
    assert call(tmp_path / "open.onnx", *QUICK, "--shape", "x=3x100").exit_code == 0


def test_figures_are_shown_also_where_nothing_is_left_to_compare_them_with(models, tmp_path):
    old = json.loads(call(*models, *QUICK, "--json").stdout)
    old["cases"][0]["host"] = "another machine"
    (tmp_path / "old.json").write_text(json.dumps(old))

    result = call(*models, *QUICK, "--compare", tmp_path / "old.json")

    assert result.exit_code == 1
    assert "cpu, 1 thread, batch 1" in result.stdout
    assert "error: no figure of the earlier document was measured now" in result.stderr


def test_what_cannot_be_compared_is_told_before_anything_is_measured(models, tmp_path):
    (tmp_path / "old.json").write_text(call(*models, *QUICK, "--json").stdout)

    result = call(*models, *QUICK, "--batch", "3", "--compare", tmp_path / "old.json")

    assert result.exit_code == 1
    assert result.stdout == ""
    assert "it is of a.onnx, b.onnx, with cpu, 1 thread, batch 1" in result.stderr


def test_progress_goes_to_standard_error(models):
    result = call(*models, *QUICK[:-1])

    assert "measure" in result.stderr
    assert "measure" not in result.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--provider", "cuda"), "error: onnxruntime"),
        (("--provider", "cudaa"), "hint: did you mean"),
        (("--transfers", "out"), "no transfers to leave out"),
        (("--shape", "x=2x7"), "does not fit"),
        (("--shape", "nonsense"), "is not a shape"),
        (("--inputs", "none.npz"), "none.npz"),
        (("--compare", "none.json"), "cannot read none.json"),
    ],
    ids=["absent provider", "unknown provider", "transfers", "shape", "no shape", "inputs", "compare"],
)
def test_what_cannot_be_measured_is_an_error_with_exit_code_1(models, options, message):
    result = call(*models, *QUICK, *options)

    assert result.exit_code == 1, result.output
    assert message in result.stderr


@pytest.mark.parametrize(
    "options",
    [("--threads", "0"), ("--batch", "1,x"), ("--provider", ","), ("--optimization", "some"), ("--seconds", "0")],
)
def test_wrong_usage_is_exit_code_2(models, options):
    assert call(*models, *options).exit_code == 2


def test_without_a_model_the_usage_is_shown():
    assert call().exit_code == 2


def test_it_works_where_torch_is_not_installed(models):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "bench", *models, *QUICK, "--json", "--profile"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["cases"][0]["models"][1]["speedup"] > 0


def test_it_measures_within_a_second_of_its_start(models):
    """Of the processor's time, which other processes cannot take from it."""
    program = (
        "import os, time\n"
        "from toolchain.bench import probe\n"
        "def stop(*_arguments):\n"
        "    print(time.process_time(), flush=True)\n"
        "    os._exit(0)\n"
        "probe._ask = stop\n"
        "from toolchain.cli import main\n"
        "import sys\n"
        "main(sys.argv[1:])\n"
    )
    started = time.monotonic()

    done = subprocess.run(
        [sys.executable, "-c", program, "bench", *models, *QUICK], capture_output=True, text=True, check=True
    )

    assert float(done.stdout) <= min(1.0, time.monotonic() - started + 0.1)
