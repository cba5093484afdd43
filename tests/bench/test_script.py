import json
import shutil
import subprocess
import sys

import boards
import onnx
import pytest
from small_run import write_small

from toolchain.bench.measurement import Settings
from toolchain.bench.probe import CPU
from toolchain.bench.script import read_by_hand, write_script
from toolchain.errors import BenchError, ToolchainError
from toolchain.progress import NullProgress

QUICK = Settings(threads=(1,), batches=(1, 3), seconds=0.1)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two files that differ."""
    folder = tmp_path_factory.mktemp("models")
    first, _ = write_small(folder)
    proto = onnx.load(first)
    proto.doc_string = "another"
    onnx.save(proto, folder / "compressed.onnx")
    return first, folder / "compressed.onnx"


@pytest.fixture
def carried(models, tmp_path):
    """The folder into which somebody has copied the script and the models."""
    return carry(models, tmp_path)


def carry(models, parent):
    folder = parent / "stick 'n' $(board)"
    folder.mkdir()
    write_script(models, QUICK, folder / "compress-bench.py")
    for model in models:
        shutil.copy(model, folder)
    return folder


def start(folder, *arguments, python=sys.executable):
    command = [python, folder / "compress-bench.py", *arguments]
    return subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, check=False)


def test_what_the_script_measures_is_read_back_with_its_outputs_compared(carried, models):
    done = start(carried, "result.json", "kitchen")
    assert done.returncode == 0, done.stderr
    result = carried.parent / "result.json"
    assert sorted(file.name for file in carried.iterdir()) == ["compress-bench.py", *sorted(m.name for m in models)]

    document = read_by_hand(result, models, NullProgress())

    assert [(case["host"], case["provider"], case["batch"]) for case in document["cases"]] == [
        ("kitchen", CPU, 1),
        ("kitchen", CPU, 3),
    ]
    for case in document["cases"]:
        assert case["models"][1]["speedup"] > 0
        assert [model["differences"][0]["max_abs"] for model in case["models"]] == [0, 0]
    assert document["environments"]["kitchen"]["cores"] > 0


@pytest.fixture(scope="module")
def written(models, tmp_path_factory):
    """What the script wrote, as text."""
    folder = carry(models, tmp_path_factory.mktemp("board"))
    start(folder)
    return (folder.parent / "result.json").read_text()


@pytest.fixture
def result(written, tmp_path):
    """A copy of it, to be damaged."""
    (tmp_path / "result.json").write_text(written)
    return tmp_path / "result.json"


def test_a_result_of_other_files_or_in_another_order_is_refused(result, models):
    with pytest.raises(BenchError, match="is of other files") as caught:
        read_by_hand(result, models[::-1], NullProgress())
    assert "model.onnx, compressed.onnx" in caught.value.hint


def test_a_file_that_has_changed_since_is_named(result, models, tmp_path):
    other = tmp_path / models[1].name
    shutil.copy(models[0], other)
    with pytest.raises(BenchError, match=rf"with other bytes in {other} than here"):
        read_by_hand(result, [models[0], other], NullProgress())


def test_a_file_of_bytes_is_not_shown(models):
    with pytest.raises(BenchError, match="no result of a measurement: it is no text") as caught:
        read_by_hand(models[0], models, NullProgress())
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.clear(),
        lambda content: content.update(kind="bench"),
        lambda content: content.update(format=99),
        lambda content: content.update(outputs="*"),
        lambda content: content.update(outputs=""),
        lambda content: content.update(sha256=3),
        lambda content: content["result"].update(cases=[{}, {}]),
        lambda content: content["result"].update(cases=[]),
        lambda content: content["result"].pop("environment"),
        lambda content: content["job"].update(surprise=1),
        lambda content: content["feeds"].update({"feeds-0.npz": "AAAA"}),
        lambda content: content["feeds"].update({"feeds-0.npz": ""}),
        lambda content: content["feeds"].pop("feeds-0.npz"),
        lambda content: content["result"]["cases"][0].update(device=3),
        lambda content: content["result"]["cases"][0].update(timing_s=float("nan")),
    ],
)
def test_a_damaged_result_is_an_error_that_names_the_file(result, models, damage):
    content = json.loads(result.read_text())
    damage(content)
    result.write_text(json.dumps(content))
    with pytest.raises(ToolchainError, match=r"result\.json"):
        read_by_hand(result, models, NullProgress())


def test_names_in_a_result_are_no_paths_here(result, models, tmp_path):
    content = json.loads(result.read_text())
    outside = f"../../{tmp_path.name}-outside.npz"
    content["feeds"][outside] = content["feeds"].pop("feeds-0.npz")
    content["job"]["cases"][0]["feeds"] = outside
    result.write_text(json.dumps(content))
    assert read_by_hand(result, models, NullProgress())["cases"][0]["models"][1]["differences"][0]["max_abs"] == 0
    assert not list(tmp_path.parent.parent.rglob("*-outside.npz"))


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "\0"])
def test_what_is_no_result_at_all_is_an_error(tmp_path, models, text):
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(BenchError, match="no result"):
        read_by_hand(tmp_path / "result.json", models, NullProgress())
    with pytest.raises(BenchError, match="cannot read"):
        read_by_hand(tmp_path / "nothing.json", models, NullProgress())


def test_a_model_that_was_not_copied_is_named(carried, models):
    (carried / models[1].name).unlink()
    done = start(carried)
    assert done.returncode == 1
    assert f"not beside this script: {models[1].name}\nhint: copy to {carried}" in done.stderr


def test_another_file_of_a_models_name_is_refused_before_anything_is_measured(carried, models):
    shutil.copy(models[0], carried / models[1].name)
    done = start(carried)
    assert done.returncode == 1
    assert f"not what this script was written for: {carried / models[1].name}" in done.stderr
    assert done.stdout == ""


def test_a_result_that_cannot_be_written_is_told_before_anything_is_measured(carried):
    done = start(carried, "nowhere/result.json")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: cannot write {carried.parent / 'nowhere' / 'result.json'}: No such file")
    assert done.stdout == ""


def test_what_the_device_could_not_run_is_told_there(models, tmp_path):
    broken = onnx.load(models[0])
    broken.graph.node[0].op_type = "Konv"
    onnx.save(broken, tmp_path / "broken.onnx")
    folder = carry([models[0], tmp_path / "broken.onnx"], tmp_path)
    done = start(folder)
    assert done.returncode == 0
    assert "error: broken.onnx: " in done.stderr
    assert "Konv" in done.stderr
    assert (folder.parent / "result.json").is_file()


def test_wrong_usage_of_the_script_says_the_right_one(carried):
    done = start(carried, "--help")
    assert done.returncode == 1
    assert "usage: python3 compress-bench.py [RESULT.json [NAME OF THIS MACHINE]]" in done.stderr


def test_the_script_needs_nothing_of_this_package(carried, tmp_path):
    blocked = "sys.modules['toolchain'] = sys.modules['torch'] = sys.modules['onnx'] = None"
    python = boards.strange_python(tmp_path / "python", blocked)
    done = start(carried, python=python)
    assert done.returncode == 0, done.stderr


def test_the_header_says_what_to_do(models, tmp_path):
    said = write_script(models, QUICK, tmp_path / "measure.py")
    text = (tmp_path / "measure.py").read_text()
    for line in ("pip install numpy onnxruntime==", "python3 measure.py result.json", "--from result.json"):
        assert line in said
        assert line in text.partition('"""')[0]
    assert all(line.startswith("#") for line in text.partition('"""')[0].splitlines())


def test_models_that_cannot_lie_in_one_folder_are_refused(models, tmp_path):
    other = tmp_path / "other" / models[0].name
    other.parent.mkdir()
    shutil.copy(models[1], other)
    with pytest.raises(BenchError, match="names are the same"):
        write_script((models[0], other), QUICK, tmp_path / "measure.py")
    assert not (tmp_path / "measure.py").exists()
