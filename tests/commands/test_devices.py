import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import boards
import pytest
from click.testing import CliRunner
from small_run import compress_small, write_small

from toolchain.cli import main

QUICK = ("--threads", "1", "--seconds", "0.1", "--quiet")
HERE = ("--on", "env", "--python", sys.executable)
STARTS_S = 60.0
NOTED_S = 20.0


def call(*arguments):
    return CliRunner().invoke(main, ["bench", *map(str, arguments)])


@pytest.fixture(scope="module")
def compressed(tmp_path_factory):
    """The original, and what a run made of it."""
    folder = tmp_path_factory.mktemp("compressed")
    return folder / "model.onnx", compress_small(folder)


@pytest.fixture
def model(tmp_path):
    return write_small(tmp_path)[0]


def test_a_device_is_measured_and_shown_and_goes_into_the_report_and_the_gates(compressed):
    original, run = compressed
    report = run.report_path.parent
    result = call(original, run.path, *HERE, *QUICK, "--report", report)
    assert result.exit_code == 0, result.output
    for text in ("env: cpu, 1 thread, batch 1", "outputs there and here", "onnxruntime"):
        assert text in result.stdout
    judged = CliRunner().invoke(main, ["check", str(report), "--device", "env", "--min-speedup", "0.001x"])
    assert judged.exit_code == 0, judged.output
    assert "env, CPU, 1 thread, batch 1" in judged.stdout


def test_the_report_is_looked_at_before_anything_is_measured(compressed, model):
    original, run = compressed
    result = call(original, model, "--on", "env", "--report", run.report_path.parent)
    assert result.exit_code == 1
    assert "is not among the models measured" in result.stderr


def test_json_of_a_device_has_its_environment_and_differences(model):
    document = json.loads(call(model, *HERE, *QUICK, "--json").stdout)
    assert document["environments"]["env"]["cores"] > 0
    assert document["cases"][0]["models"][0]["differences"][0]["max_abs"] == 0


def test_a_device_without_onnxruntime_is_exit_code_1_with_what_to_install(model, tmp_path):
    python, _ = boards.bare_python(tmp_path / "python")
    result = call(model, "--on", "env", "--python", python, *QUICK)
    assert result.exit_code == 1
    assert "has no numpy that can be imported" in result.stderr
    assert "pip install numpy onnxruntime==" in result.stderr
    assert result.stdout == ""


def test_a_command_that_reaches_nothing_leaves_the_other_devices_measured(model):
    result = call(model, "--on", "false", *HERE, *QUICK)
    assert result.exit_code == 1
    assert "--on 'false' did not run" in result.stderr
    assert "env: cpu, 1 thread, batch 1" in result.stdout


def test_the_script_is_written_and_its_result_is_shown(model, tmp_path):
    script = tmp_path / "measure.py"
    written = call(model, *QUICK, "--script", "-o", script)
    assert written.exit_code == 0, written.output
    assert "Copy into one folder there: measure.py, model.onnx" in written.stdout
    subprocess.run([sys.executable, script, "result.json", "kitchen"], cwd=tmp_path, check=True, capture_output=True)
    shown = call(model, "--from", tmp_path / "result.json", "--quiet")
    assert shown.exit_code == 0, shown.output
    assert "kitchen: cpu, 1 thread, batch 1" in shown.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--on", "env", "--script"], "--on and --script are different ways"),
        (["--script", "--from", "x.json"], "--script and --from are different ways"),
        (["--python", "python3"], "--python and --remote-folder are of the machine that --on names"),
        (["-o", "x.py"], "-o names the file that --script writes"),
        (["--script", "--report", "."], "give --report together with --from"),
        (["--from", "x.json", "--threads", "2", "--profile"], "--threads, --profile: what --from shows is measured"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(model, options, message):
    result = call(model, *options)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_an_end_in_the_middle_leaves_nothing_on_the_device(model, tmp_path, sent, code):
    there, here = tmp_path / "there", tmp_path / "here"  # a kill leaves what this side has made
    there.mkdir()
    here.mkdir()
    command = [sys.executable, "-m", "toolchain", "bench", model, *HERE, "--remote-folder", there, "--seconds", "300"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": str(here)}
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
        text=True,
        # Tests in the background ignore it.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
    )
    try:
        wait_until(lambda: list(there.glob("*/probe-*")), STARTS_S)
        process.send_signal(sent)
        _, said = process.communicate(timeout=STARTS_S)
    finally:
        process.kill()
    assert process.returncode == code
    assert sent != signal.SIGINT or "interrupted" in said
    wait_until(lambda: not list(there.iterdir()), NOTED_S)


def wait_until(is_so, seconds):
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
