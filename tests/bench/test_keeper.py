import ast
import subprocess
import sys
from pathlib import Path

import pytest

from toolchain.bench import keeper, probe


@pytest.mark.parametrize("module", [keeper, probe], ids=["keeper", "probe"])
def test_what_runs_on_a_device_is_python_3_8(module):
    ast.parse(Path(module.__file__).read_text(), feature_version=(3, 8))


def test_the_keeper_imports_the_standard_library_only():
    tree = ast.parse(Path(keeper.__file__).read_text())
    names = [
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    ]
    assert set(names) <= sys.stdlib_module_names


def test_kills_for_memory_are_counted_where_the_system_tells(tmp_path, monkeypatch):
    counters = tmp_path / "vmstat"
    counters.write_text("nr_free_pages 12\noom_kill 3\n")
    monkeypatch.setattr(keeper, "VM_COUNTERS", counters)
    assert keeper.oom_kills() == 3
    for text in ("", "nr_free_pages 12\n", "a line of other words\n"):
        counters.write_text(text)
        assert keeper.oom_kills() == 0
    monkeypatch.setattr(keeper, "VM_COUNTERS", tmp_path / "nothing")
    assert keeper.oom_kills() == 0


def serve(folder, asked):
    """Return what the keeper answers, and its exit code; it gets all requests at once."""
    code = f"{Path(keeper.__file__).read_text()}"
    done = subprocess.run([sys.executable, "-c", code, folder], input=asked, capture_output=True, check=False)
    return done.stdout.splitlines(), done.returncode


def test_the_end_of_the_conversation_removes_the_folder(tmp_path):
    folder = tmp_path / "kept"
    folder.mkdir()
    answers, code = serve(folder, b'{"do": "put", "name": "a", "bytes": 3}\nabc')
    assert (len(answers), answers[1], code) == (2, b'{"done": true}', 1)
    assert not folder.exists()


def test_half_a_file_is_the_end_of_the_conversation(tmp_path):
    folder = tmp_path / "kept"
    folder.mkdir()
    answers, code = serve(folder, b'{"do": "put", "name": "a", "bytes": 3}\nab')
    assert (len(answers), code) == (1, 1)
    assert not folder.exists()


def test_a_request_that_makes_no_sense_removes_the_folder_too(tmp_path):
    folder = tmp_path / "kept"
    folder.mkdir()
    _, code = serve(folder, b"\xff{ no JSON\n")
    assert code == 1
    assert not folder.exists()
