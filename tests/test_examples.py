"""The examples, run as a user's pipeline runs them: the workflow's steps in a shell, the hook in a git repository."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from small_run import compress_small, write_small

from toolchain.gates.limits import Gates
from toolchain.recipe import read_recipe

EXAMPLES = Path(__file__).parents[1] / "examples"
LENIENT = '[gates]\nmax_drop = 100\nmax_size = "1MB"\nmax_latency = "10s"\n'
STRICT = '[gates]\nmax_drop = 100\nmax_size = "1B"\n'
NAME = "model.compressed.onnx"
REPORT = "model.compressed-report"

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="the examples are bash scripts")
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a model, its data, the compressed model and its report."""
    folder = tmp_path_factory.mktemp("made")
    compress_small(folder)
    return folder


def environment(folder, **more):
    """The environment of a shell that has ``compress``, whatever the user's own configuration of git is."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    names = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(folder)}
    for role in ("AUTHOR", "COMMITTER"):
        names |= {f"GIT_{role}_NAME": "somebody", f"GIT_{role}_EMAIL": "somebody@example.org"}
    return {**os.environ, "PATH": path, **names, **more}


def test_the_thresholds_of_the_examples_are_understood():
    gates = read_recipe(EXAMPLES / "gates.toml").gates
    assert gates == Gates(max_drop=0.5, max_size=2e6, min_ratio=10, max_latency=5, min_speedup=1)


def run_steps(folder, adapt, names):
    """Run the named steps of the workflow as GitHub's runner does; return the last exit code and what was printed."""
    workflow = yaml.safe_load((EXAMPLES / "github-actions.yml").read_text(encoding="utf-8"))
    (job,) = workflow["jobs"].values()
    printed, code = "", 0
    for step in (step for step in job["steps"] if step.get("name") in names):
        assert "if" not in step, "a step that runs after a failure needs more than this"
        (folder / "step.sh").write_text(adapt(step["run"]))
        command = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "step.sh"]
        env = environment(folder, **job["env"], GITHUB_STEP_SUMMARY=str(folder / "summary.md"))
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
        printed, code = printed + done.stdout + done.stderr, done.returncode
        if code:
            break
    return code, printed


@needs_bash
def test_the_workflow_compresses_and_judges(tmp_path):
    write_small(tmp_path)
    (tmp_path / "gates.toml").write_text(LENIENT)

    def adapt(text):  # what is asked of so small a model, and no training of ten minutes
        return text.replace("--prune 36x", "--prune 2x").replace("--budget 10m", "--epochs 0")

    code, printed = run_steps(tmp_path, adapt, ["Compress", "Check"])
    assert code == 0, printed
    assert (tmp_path / "small.onnx").is_file()
    assert (tmp_path / "report" / "report.html").is_file()
    assert "::error" not in printed
    assert ElementTree.parse(tmp_path / "gates.xml").getroot().get("failures") == "0"

    (tmp_path / "gates.toml").write_text(STRICT)
    code, printed = run_steps(tmp_path, adapt, ["Check"])
    assert code == 1
    assert [line.split("::")[1] for line in printed.splitlines() if line.startswith("::")] == [
        "error title=compress%3A max-size"
    ]
    assert ElementTree.parse(tmp_path / "gates.xml").getroot().get("failures") == "1"
    titles = [line for line in (tmp_path / "summary.md").read_text(encoding="utf-8").splitlines() if "###" in line]
    assert titles == ["### Gates of small.onnx: all 3 gates passed", "### Gates of small.onnx: 1 of 2 gates failed"]


def test_the_workflow_installs_what_its_steps_run_and_keeps_what_they_write():
    workflow = yaml.safe_load((EXAMPLES / "github-actions.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["compress"]["steps"]
    names = [step.get("name") or step["uses"].split("@")[0] for step in steps]
    assert names == [
        "actions/checkout",
        "actions/setup-python",
        "Install",
        "Compress",
        "Check",
        "actions/upload-artifact",
    ]
    kept = steps[-1]["with"]["path"].split()
    assert kept == ["small.onnx", "report/", "gates.xml"]
    assert steps[-1]["if"] == "${{ !cancelled() }}", "what failed is what one wants to look at"


class Repository:
    """A git repository with the hook."""

    def __init__(self, folder):
        self.folder = folder
        self.git("init", "--quiet")
        hook = folder / ".git" / "hooks" / "pre-commit"
        hook.parent.mkdir(exist_ok=True)
        shutil.copy2(EXAMPLES / "pre-commit", hook)

    def git(self, *args):
        command = ["git", *args]
        env = environment(self.folder)
        return subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True, check=False)

    def commit(self, *paths):
        """Stage the paths and commit; return whether that worked, and what was printed."""
        added = self.git("add", "--", *paths)
        assert added.returncode == 0, added.stderr
        done = self.git("commit", "--message", "change")
        return done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def repository(made, tmp_path):
    folder = tmp_path / "re po"
    folder.mkdir()
    found = Repository(folder)
    (folder / "gates.toml").write_text(LENIENT)
    (folder / "models").mkdir()
    shutil.copy(made / NAME, folder / "models" / NAME)
    shutil.copytree(made / REPORT, folder / "models" / REPORT)
    return found


@needs_bash
@needs_git
def test_the_hook_lets_a_model_pass_that_meets_its_thresholds(repository):
    committed, printed = repository.commit("gates.toml", "models")
    assert committed, printed
    assert f"models/{NAME}" in printed
    assert "all 3 gates passed" in printed


@needs_bash
@needs_git
def test_the_hook_refuses_a_model_that_misses_one(repository):
    (repository.folder / "gates.toml").write_text(STRICT)
    committed, printed = repository.commit("gates.toml", "models")
    assert not committed
    assert "FAIL  max-size" in printed


@needs_bash
@needs_git
def test_the_hook_judges_what_is_staged_and_not_what_lies_in_the_folder(repository):
    assert repository.git("add", "--", "gates.toml", "models").returncode == 0
    (repository.folder / "gates.toml").write_text(STRICT)
    (repository.folder / "models" / NAME).write_bytes(b"torn")
    done = repository.git("commit", "--message", "change")
    assert done.returncode == 0, done.stdout + done.stderr


@needs_bash
@needs_git
def test_the_hook_refuses_a_report_of_another_file(repository):
    assert repository.commit("gates.toml", "models")[0]
    with (repository.folder / "models" / NAME).open("ab") as file:
        file.write(b" ")
    committed, printed = repository.commit("models")
    assert not committed
    assert "is not of" in printed


@needs_bash
@needs_git
def test_the_hook_looks_at_a_report_that_changes_alone(repository):
    assert repository.commit("gates.toml", "models")[0]
    report = repository.folder / "models" / REPORT / "report.json"
    report.write_text("{}")
    committed, printed = repository.commit("models")
    assert not committed
    assert "is no report" in printed


@needs_bash
@needs_git
@pytest.mark.parametrize("missing", ["gates.toml", f"models/{REPORT}/report.json"])
def test_the_hook_says_what_is_missing(repository, missing):
    (repository.folder / missing).unlink()
    committed, printed = repository.commit(".")
    assert not committed
    assert f"error: not in the index: {missing}\nhint: git add {missing}\n" in printed


@needs_bash
@needs_git
def test_the_hook_has_nothing_to_say_of_other_files(repository):
    (repository.folder / "notes.txt").write_text("nothing")
    committed, printed = repository.commit("notes.txt")
    assert committed, printed
    assert "onnx" not in printed
