import json
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from small_run import compress_small

from toolchain.cli import main

ALL = (
    *("--max-drop", "100", "--min-accuracy", "1%", "--max-size", "1MB"),
    *("--min-ratio", "0.01x", "--min-speedup", "0.001", "--max-latency", "10s"),
)


@pytest.fixture(scope="module")
def compressed(tmp_path_factory):
    return compress_small(tmp_path_factory.mktemp("small"))


@pytest.fixture
def folder(compressed, tmp_path):
    """The report's folder, a copy of its own."""
    shutil.copytree(compressed.report_path.parent, tmp_path / "report")
    return tmp_path / "report"


def check(*args, **options):
    return CliRunner().invoke(main, ["check", *map(str, args)], **options)


def test_a_report_that_meets_every_threshold_exits_with_0(folder):
    for path in (folder, folder / "report.json"):
        result = check(path, *ALL)
        assert result.exit_code == 0, result.output
        assert [line.split()[0] for line in result.stdout.splitlines()] == ["pass"] * 6 + ["all"]


def test_one_missed_threshold_exits_with_1(folder):
    result = check(folder, *ALL, "--max-size", "1B")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[2].startswith("FAIL  max-size      at most 1 B")
    assert result.stdout.splitlines()[-1] == "1 of 6 gates failed"


def test_a_device_that_was_not_measured_fails(folder):
    result = check(folder, "--min-speedup", "0.001", "--device", "jetson")
    assert result.exit_code == 1
    assert "not measured" in result.stdout


def test_torch_is_never_imported(folder):
    arguments = ["check", str(folder), *ALL]
    code = f"import sys; sys.modules['torch'] = None; from toolchain.cli import main; main({arguments!r})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "all 6 gates passed" in found.stdout


def test_the_thresholds_may_come_from_a_recipe_and_options_win(folder, tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('prune = "2x"\n[gates]\nmax_size = "1B"\nmin_ratio = 0.01\ndevice = "jetson"\n')
    assert check(folder, "--recipe", recipe).exit_code == 1
    result = check(folder, "--recipe", recipe, "--max-size", "1MB")
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 3)
    assert check(folder, "--recipe", recipe, "--max-size", "1MB", "--max-latency", "10s").exit_code == 1
    result = check(folder, "--recipe", recipe, "--max-size", "1MB", "--max-latency", "10s", "--device", "cpu")
    assert result.exit_code == 0


def test_a_recipe_without_thresholds_is_an_error(folder, tmp_path):
    (tmp_path / "recipe.toml").write_text('prune = "2x"\n')
    result = check(folder, "--recipe", tmp_path / "recipe.toml")
    assert result.exit_code == 1
    assert "has no thresholds" in result.stderr


def test_a_report_of_another_file_is_refused(folder, compressed, tmp_path):
    assert check(folder, "--max-size", "1MB", "--model", compressed.path).exit_code == 0
    other = tmp_path / "other.onnx"
    other.write_bytes(compressed.path.read_bytes() + b" ")
    result = check(folder, "--max-size", "1MB", "--model", other)
    assert result.exit_code == 1
    assert "is not of" in result.stderr
    assert "cannot read" in check(folder, "--max-size", "1MB", "--model", tmp_path / "none.onnx").stderr


def test_junit_is_what_standard_output_holds(folder):
    result = check(folder, "--max-size", "1B", "--format", "junit")
    assert result.exit_code == 1
    assert ElementTree.fromstring(result.stdout).get("failures") == "1"


def test_github_gets_annotations_and_a_summary_of_the_job(folder, tmp_path):
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    environment = {"GITHUB_STEP_SUMMARY": str(summary)}
    result = check(folder, "--max-size", "1B", "--min-ratio", "0.01", "--format", "github", env=environment)
    assert result.exit_code == 1
    assert sum(line.startswith("::error ") for line in result.stdout.splitlines()) == 1
    assert summary.read_text(encoding="utf-8").startswith("before\n### Gates of model.compressed.onnx: 1 of 2")
    assert check(folder, "--max-size", "1MB", "--format", "github", env={"GITHUB_STEP_SUMMARY": ""}).exit_code == 0
    assert check(folder, "--max-size", "1MB", "--format", "text", env=environment).exit_code == 0
    assert summary.read_text(encoding="utf-8").count("###") == 1


def test_a_summary_that_cannot_be_written_is_an_error(folder, tmp_path):
    result = check(folder, "--max-size", "1MB", "--format", "github", env={"GITHUB_STEP_SUMMARY": str(tmp_path)})
    assert result.exit_code == 1
    assert "cannot write GITHUB_STEP_SUMMARY" in result.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not JSON"),
        ("[]", "is no report"),
        ("{}", "is no report"),
        ('{"schema": 1, "tool": {"version": "0.0.9"}}', "0.0.9"),
        ('{"schema": 1e999}', "error"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_what_is_no_report_is_refused_politely(tmp_path, text, says):
    (tmp_path / "report.json").write_text(text)
    result = check(tmp_path, "--max-size", "1MB")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert says in result.stderr
    assert "Traceback" not in result.output


def test_a_report_that_lacks_a_section_is_refused_with_its_place(folder):
    report = json.loads((folder / "report.json").read_text())
    del report["size"]["compressed_bytes"]
    (folder / "report.json").write_text(json.dumps(report))
    result = check(folder, "--max-size", "1MB")
    assert result.exit_code == 1
    assert ".size" in result.stderr


def test_a_missing_report_is_an_error(tmp_path):
    for path in (tmp_path, tmp_path / "none.json"):
        result = check(path, "--max-size", "1MB")
        assert (result.exit_code, "cannot read" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ((), "say what to check"),
        (("--max-size", "2"), "has no unit"),
        (("--max-latency", "fast"), "is not a time"),
        (("--format", "xml", "--max-size", "2MB"), "xml"),
        (("--device", "pi"), "say what to check"),
    ],
)
def test_wrong_usage_exits_with_2(tmp_path, args, says):
    result = check(tmp_path, *args)
    assert result.exit_code == 2
    assert says in result.stderr


def test_compress_judges_its_own_run_and_writes_the_files_all_the_same(tmp_path, compressed):
    model, data = compressed.report["model"]["path"], compressed.path.with_name("data.npz")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('prune = "2x"\n[gates]\nmax_size = "1MB"\nmin_ratio = 1000\n')
    output = tmp_path / "small.onnx"
    command = [model, "--recipe", recipe, "--data", data, "--epochs", "0", "-o", output, "--max-drop", "100"]
    result = CliRunner().invoke(main, [*map(str, command), "--min-accuracy", "1%", "-q"])
    assert result.exit_code == 1
    lines = [line for line in result.stderr.splitlines() if "at least" in line or "at most" in line]
    assert [line.split()[:2] for line in lines] == [["FAIL", "min-ratio"]]
    assert output.is_file()
    assert (tmp_path / "small-report" / "report.json").is_file()
