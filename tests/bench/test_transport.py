import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from toolchain.bench import transport
from toolchain.bench.hosts import parse_host
from toolchain.bench.transport import connect
from toolchain.errors import HostError

NOTED_S = 20.0  # at most, until a device has noticed that nobody is there any more


def emptied(folder):
    """Wait until nothing is in the folder."""
    end = time.monotonic() + NOTED_S
    while list(folder.iterdir()) and time.monotonic() < end:
        time.sleep(0.02)
    return not list(folder.iterdir())


def has_ended(pid):
    """Wait until there is no such process, or nobody but its parent knows of it."""
    end = time.monotonic() + NOTED_S
    while time.monotonic() < end:
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, check=False).stdout
        if state.strip()[:1] in (b"", b"Z"):
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def ignore():
    return lambda _heard: None


def test_files_come_back_as_they_were(anywhere, tmp_path):
    file = tmp_path / "every byte"
    file.write_bytes(bytes(range(256)) * 5000)
    sent = []
    with connect(parse_host(anywhere.url), sys.executable) as device:
        device.put("deep/in/it", file, sent.append)
        assert device.get("deep/in/it") == file.read_bytes()
        assert device.get("deep/elsewhere") is None
    assert sum(sent) == file.stat().st_size


def test_nothing_is_left_behind(anywhere, tmp_path, ignore):
    file = tmp_path / "model.onnx"
    file.write_bytes(b"x" * 100_000)
    with connect(parse_host(anywhere.url), sys.executable) as device:
        device.put("model.onnx", file, ignore)
        assert Path(device.folder, "model.onnx").exists()
        assert device.finish()
        assert not list(anywhere.temporary.iterdir())


def test_nothing_is_left_behind_after_an_error_here(anywhere, ignore):
    def fail():
        with connect(parse_host(anywhere.url), sys.executable) as device:
            device.put("script.py", Path(__file__), ignore)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert emptied(anywhere.temporary)


def test_a_cut_connection_ends_what_runs_and_removes_the_folder(anywhere):
    pids = []

    def cut(line):
        pids.append(int(line))
        device._process.kill()

    script = "import os, time; print(os.getpid()); time.sleep(600)"
    with (
        pytest.raises(HostError, match="went away while it measured"),
        connect(parse_host(anywhere.url), sys.executable) as device,
    ):
        device.run(["-c", script], cut)
    assert emptied(anywhere.temporary)
    assert has_ended(pids[0])


def test_lines_are_heard_as_they_are_printed(device):
    heard = []
    script = "import sys; print('one'); print('two', file=sys.stderr); sys.stdout.write('three')"
    with connect(parse_host(device.url), sys.executable) as connection:
        ended = connection.run(["-c", script], heard.append)
    assert heard == ["one", "two"]
    assert (ended.code, ended.tail) == (0, "one\ntwo\nthree")


def test_what_a_terminal_would_obey_is_not_passed_on(device, ignore):
    with connect(parse_host(device.url), sys.executable) as connection:
        ended = connection.run(["-c", "print('\\x1b[2J\\x9bred\\a')"], ignore)
    assert ended.tail == " [2J red \n"


def test_a_command_that_is_killed_is_told_from_one_that_fails(device, ignore):
    with connect(parse_host(device.url), sys.executable) as connection:
        killed = connection.run(["-c", "import os; os.kill(os.getpid(), 9)"], ignore)
        failed = connection.run(["-c", "raise SystemExit('no')"], ignore)
        assert connection.run(["-c", "print('goes on')"], ignore).tail == "goes on\n"
    assert (killed.code, failed.code, failed.tail) == (-signal.SIGKILL, 1, "no\n")


def test_what_the_command_starts_ends_with_it(device, ignore):
    script = "import subprocess as s; print(s.Popen(['sleep', '600'], stdout=s.DEVNULL, stderr=s.DEVNULL).pid)"
    with connect(parse_host(device.url), sys.executable) as connection:
        ended = connection.run(["-c", script], ignore)
    assert has_ended(int(ended.tail))


@pytest.mark.parametrize("name", ["/elsewhere", "../elsewhere", "a/../../elsewhere"])
def test_the_device_takes_no_file_outside_its_folder(device, ignore, name):
    with (
        pytest.raises(HostError, match="not inside the folder"),
        connect(parse_host(device.url), sys.executable) as connection,
    ):
        connection.put(name, Path(__file__), ignore)
    assert not list(device.temporary.iterdir())


WORST = "a 'b' \"c\" $(touch hole) `touch hole` \\ ; touch hole & * ~ !x é"


def test_no_shell_reads_the_folder_that_is_asked_for(anywhere, tmp_path, ignore):
    folder = tmp_path / WORST
    folder.mkdir()
    with connect(parse_host(anywhere.url), sys.executable, str(folder)) as device:
        assert Path(device.folder).parent == folder
        device.put(WORST, Path(__file__), ignore)
        assert device.get(WORST) == Path(__file__).read_bytes()
        assert device.run(["-c", "import sys; print(sys.argv[1])", WORST], ignore).tail == f"{WORST}\n"
    assert not list(folder.iterdir())
    assert not Path.home().joinpath("hole").exists()
    assert not Path("hole").exists()


def test_no_shell_reads_the_python_that_is_asked_for(anywhere):
    with pytest.raises(HostError, match="has no command") as caught, connect(parse_host(anywhere.url), WORST):
        pass
    assert "--python" in caught.value.hint
    assert not Path.home().joinpath("hole").exists()


def test_a_python_with_spaces_and_quotes_in_its_path_runs(anywhere, tmp_path):
    odd = tmp_path / 'it\'s a "python" $(here)'
    odd.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    odd.chmod(0o755)
    with connect(parse_host(anywhere.url), str(odd)) as device:
        assert device.python == sys.version.split()[0]


@pytest.mark.parametrize("what", [{"python": "python3\nrm"}, {"parent": "/tmp\n/"}])
def test_a_line_break_is_refused_before_anything_is_sent(what):
    with pytest.raises(HostError, match="line break"), connect(parse_host("env"), **what):
        pass


def test_an_old_python_is_named(anywhere, tmp_path):
    old = tmp_path / "python2"
    script = "import sys; sys.version_info = (2, 7); exec(sys.argv[1])"
    old.write_text(f"""#!/bin/sh\nexec {sys.executable} -c "{script}" "$3" \n""")
    old.chmod(0o755)
    with pytest.raises(HostError, match=r"older than Python 3\.8"), connect(parse_host(anywhere.url), str(old)):
        pass


def test_a_folder_that_cannot_be_made_is_named(device):
    with (
        pytest.raises(HostError, match="has no room for a folder in '/nowhere'") as caught,
        connect(parse_host(device.url), sys.executable, "/nowhere"),
    ):
        pass
    assert "--remote-folder" in caught.value.hint


def test_a_full_device_is_named(device, tmp_path, ignore):
    file = tmp_path / "model.onnx"
    file.write_bytes(b"x" * 3_000_000)
    limited = tmp_path / "limited"
    limited.write_text(f'#!/bin/bash\nulimit -f 1000\nexec {sys.executable} "$@"\n')  # files of at most 1 MB
    limited.chmod(0o755)
    with (
        pytest.raises(HostError, match="cannot store model") as caught,
        connect(parse_host(device.url), str(limited)) as connection,
    ):
        connection.put("model.onnx", file, ignore)
    assert "--remote-folder" in caught.value.hint
    assert not list(device.temporary.iterdir())


def test_what_a_login_prints_is_skipped(tmp_path):
    chatty = tmp_path / "chatty"
    chatty.write_text('#!/bin/sh\necho "Welcome to the board"\nexec "$@"\n')
    chatty.chmod(0o755)
    with connect(parse_host(str(chatty)), sys.executable) as device:
        assert device.python == sys.version.split()[0]


def test_a_prefix_that_joins_its_arguments_works_as_well(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with connect(parse_host("""sh -c 'eval "$*"' joined"""), sys.executable) as device:
        assert Path(device.folder).parent == tmp_path
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not shutil.which("busybox"), reason="BusyBox is not installed")
def test_the_script_runs_in_the_shell_of_a_small_board(tmp_path, ignore):
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("sh", "mktemp", "rm"):
        (commands / name).symlink_to(shutil.which("busybox"))
    parent = tmp_path / "parent"
    parent.mkdir()
    with connect(parse_host(f"env PATH={commands}"), sys.executable, str(parent)) as device:
        assert device.run(["-c", "print(1)"], ignore).tail == "1\n"
        assert list(parent.iterdir())
    assert not list(parent.iterdir())


def test_a_file_that_is_too_large_is_not_taken(tmp_path, monkeypatch, ignore):
    monkeypatch.setattr(transport, "LARGEST_FILE", 999)
    with connect(parse_host("env"), sys.executable, str(tmp_path)) as device:
        device.run(["-c", "open('large', 'wb').write(bytes(1000)); open('small', 'wb').write(bytes(999))"], ignore)
        assert device.get("small") == bytes(999)
        with pytest.raises(HostError, match="has 1,000 bytes in large"):
            device.get("large")


def test_a_line_without_end_fills_nobodys_memory(tmp_path):
    heard = []
    with connect(parse_host("env"), sys.executable, str(tmp_path)) as device:
        ended = device.run(["-c", "print(chr(0) * 5_000_000); print('last')"], heard.append)
    assert len(heard[0]) <= 2 * transport.CHUNK
    assert ended.tail.endswith("last\n")


def test_a_device_that_sends_a_line_without_end_is_left(tmp_path):
    flood = tmp_path / "flood"
    flood.write_text(
        '#!/bin/sh\ncase "$*" in *compress-*XXXXXX*) ;; *) exec "$@";; esac\nwhile :; do printf %04096d 0; done\n'
    )
    flood.chmod(0o755)
    with pytest.raises(HostError, match="a line without end"), connect(parse_host(str(flood)), sys.executable):
        pass


def test_silence_is_not_waited_for_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(transport, "SILENCE_S", 0.5)
    monkeypatch.setattr(transport, "GOODBYE_S", 0.1)
    script = "import os, signal, time; print(os.getppid()); time.sleep(0.3); os.kill(os.getppid(), signal.SIGSTOP)"
    keepers = []
    with (
        pytest.raises(HostError, match=r"nothing was heard of it for"),
        connect(parse_host("env"), sys.executable, str(tmp_path)) as device,
    ):
        device.run(["-c", script], lambda line: keepers.append(int(line)))
    os.kill(keepers[0], signal.SIGKILL)
