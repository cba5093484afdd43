import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from toolchain.cli import main
from toolchain.measure.schema import SCHEMA


def call(*arguments):
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


def minimal_report():
    times = {"p50_ms": 1.0, "p90_ms": 1.0, "p99_ms": 1.0, "mean_ms": 1.0, "runs": 1, "quantiles_ms": [1.0]}
    place = {"provider": "CPUExecutionProvider", "device": "d", "threads": 1, "batch": 1}
    speed = {"original": times, "compressed": times, "speedup": 1.0, "speedup_ci95": [0.9, 1.1]}
    size = dict.fromkeys(SCHEMA["$defs"]["size"]["required"], 100)
    weights = {"total": 0, "nonzero": 0, "dead": 0, "nonzero_original": 0, "ratio": None, "bits_per_weight": None}
    quality = {"metric": "top-1 accuracy", "original": 0.9, "compressed": 0.8, "drop": 0.1, "samples": 10}
    return {
        "schema": 2,
        "tool": {"version": "1"},
        "model": {"path": "net.onnx", "sha256": "0" * 64},
        "compressed": {"path": "small.onnx", "sha256": "1" * 64},
        "plan": [],
        "seed": 0,
        "size": size,
        "weights": weights | {"tensors": []},
        "quality": quality | {"fidelity": {}, "data": "task", "classes": [], "worst": []},
        "latency": [place | speed | {"load_ms": {"original": 1.0, "compressed": 1.0}}],
        "parity": {"judged": "end to end", "max_abs_error": None, "tolerance": None, "outputs": []},
        "verdict": [],
        "environment": {},
        "timings": {},
        "phases": [],
        "convergence": [],
        "notes": [],
    }


@pytest.fixture
def runs(tmp_path):
    for name, report in (("good", minimal_report()), ("old", minimal_report() | {"schema": 1})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(json.dumps(report))
    return tmp_path


def test_the_page_goes_into_the_folder_and_what_cannot_be_read_is_a_warning(runs):
    result = call(runs)

    assert result.exit_code == 0
    assert (runs / "index.html").read_text().startswith("<!doctype html>")
    assert result.stdout == f"page    {runs / 'index.html'}\n"
    assert f"warning: left out: {runs / 'old' / 'report.json'} follows schema 1" in result.stderr


def test_the_page_goes_where_it_is_asked_for_and_quiet_says_nothing_of_it(runs, tmp_path):
    result = call(runs / "good", "-o", tmp_path / "all.html", "--quiet")

    assert (result.exit_code, result.output) == (0, "")
    assert (tmp_path / "all.html").exists()
    assert not (runs / "good" / "index.html").exists()


def test_nothing_that_can_be_read_is_an_error_with_a_hint(runs):
    result = call(runs / "old")

    assert result.exit_code == 1
    assert "error: no report of a run in" in result.stderr
    assert "hint: " in result.stderr


def test_a_folder_that_is_not_there_is_wrong_usage(tmp_path):
    assert call(tmp_path / "missing").exit_code == 2


def test_torch_is_not_needed(runs):
    blocked = "import sys; sys.modules['torch'] = None; from toolchain.cli import main; main(sys.argv[1:])"

    found = subprocess.run([sys.executable, "-c", blocked, "report", runs], capture_output=True, text=True, check=False)

    assert (found.returncode, found.stdout) == (0, f"page    {runs / 'index.html'}\n"), found.stderr
