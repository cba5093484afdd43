"""How the command ends where something outside of it is in the way."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from small_run import write_small

from toolchain.cli import main

FULL = Path("/dev/full")


@pytest.fixture
def ending(monkeypatch):
    """Call a command that ends with an exception."""

    def called(error, cause=None):
        def callback():
            raise error from cause

        monkeypatch.setitem(main.commands, "ending", click.Command("ending", callback=callback))
        return CliRunner().invoke(main, ["ending"])

    return called


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_a_full_disk_behind_standard_output_is_an_error_without_a_traceback(tmp_path):
    model, _ = write_small(tmp_path)
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "toolchain", "inspect", model],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )
    assert (done.returncode, done.stderr) == (1, f"error: cannot write standard output: {os.strerror(errno.ENOSPC)}\n")


def test_a_full_disk_names_the_file(ending):
    result = ending(OSError(errno.EDQUOT, "Disk quota exceeded", "small.onnx"))
    assert result.exit_code == 1
    assert result.stderr == "error: cannot write small.onnx: Disk quota exceeded\n"


@pytest.mark.parametrize("cause", [None, KeyboardInterrupt()])
def test_ctrl_c_while_modules_are_imported_is_no_traceback(ending, cause):
    result = ending(KeyboardInterrupt() if cause is None else ImportError("initialization failed"), cause)
    assert result.exit_code == 130
    assert result.stderr == "interrupted: no file is half-written\n"


@pytest.mark.parametrize("error", [OSError(errno.EBADF, "Bad file descriptor"), ImportError("no module")])
def test_what_nobody_expects_keeps_its_traceback(ending, error):
    assert ending(error).exception is error
