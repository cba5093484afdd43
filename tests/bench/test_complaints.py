import socket
import sys

import pytest

from toolchain.bench.complaints import gone, printable
from toolchain.bench.hosts import parse_host
from toolchain.bench.transport import connect
from toolchain.errors import HostError


def refusal(url):
    with pytest.raises(HostError) as caught, connect(parse_host(url), sys.executable):
        pass
    return caught.value


def test_an_unknown_host_key_is_refused(anywhere):
    known = anywhere.folder / "known_hosts"
    text = known.read_text()
    known.write_text("")
    try:
        error = refusal(anywhere.url)
        assert known.read_text() == "", "the key was added unasked"
    finally:
        known.write_text(text)
    assert "host key that is not known here" in str(error)
    assert "compare the fingerprint" in error.hint


def test_another_host_key_is_refused(anywhere):
    known = anywhere.folder / "known_hosts"
    text = known.read_text()
    place, kind, _, *_ = text.split()
    other = (anywhere.folder / "user_key.pub").read_text().split()[1]
    known.write_text(f"{place} {kind} {other}\n")
    try:
        error = refusal(anywhere.url)
    finally:
        known.write_text(text)
    assert "another host key than the one that is known" in str(error)
    assert "ssh-keygen -R" in error.hint


def test_a_trusting_configuration_does_not_switch_the_check_off(anywhere):
    known, config = anywhere.folder / "known_hosts", anywhere.folder / "client_config"
    texts = known.read_text(), config.read_text()
    known.write_text("")
    config.write_text(f"{texts[1]}StrictHostKeyChecking no\n")
    try:
        error = refusal(anywhere.url)
    finally:
        known.write_text(texts[0])
        config.write_text(texts[1])
    assert "host key that is not known here" in str(error)


def test_a_key_that_is_not_let_in_is_told(anywhere):
    config = anywhere.folder / "client_config"
    text = config.read_text()
    config.write_text(text.replace("user_key", "host_key"))
    try:
        error = refusal(anywhere.url)
    finally:
        config.write_text(text)
    assert "does not let this user in" in str(error)
    assert "ssh-copy-id" in error.hint


def test_a_port_where_nobody_listens_is_told(device):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        error = refusal(f"ssh://127.0.0.1:{free.getsockname()[1]}")
    assert "no ssh server listens" in str(error)
    assert device.url.rpartition(":")[0] + ":" not in error.hint


def test_a_name_that_does_not_resolve_is_told(device):
    assert device.port
    assert "is not a name that resolves" in str(refusal("ssh://no-such-board.invalid"))


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("ssh: connect to host board port 22: Connection timed out", "does not answer"),
        ("ssh: connect to host board port 22: No route to host", "is not reachable"),
        ("ssh: connect to host board port 22: Network is unreachable", "is not reachable"),
        ("something new", "cannot be reached, exit code 255: something new"),
    ],
)
def test_what_ssh_says_is_explained(said, meaning):
    assert meaning in str(gone("board", "", said, 255))


def test_a_python_that_cannot_be_executed_is_named(tmp_path):
    python = tmp_path / "python3"
    python.write_text("no program")
    python.chmod(0o644)
    with pytest.raises(HostError, match=r"env has no command|env cannot execute") as caught:
        connect(parse_host("env"), str(python)).__enter__()
    assert str(python) in str(caught.value)
    assert "--python" in caught.value.hint


def test_a_launcher_that_finds_no_python_hints_at_another(tmp_path):
    python = tmp_path / "python2"  # as version managers put it there
    python.write_text("#!/bin/sh\necho 'python2: command not found' >&2\nexit 127\n")
    python.chmod(0o755)
    with pytest.raises(HostError, match="python2: command not found") as caught:
        connect(parse_host("env"), str(python)).__enter__()
    assert f"it needs {str(python)!r}, or another --python" in caught.value.hint


def test_a_connection_that_ends_names_what_may_be_left():
    error = gone("board", "folder/compress-bench.x", "client_loop: send disconnect: Broken pipe", 255)
    assert "went away while it measured" in str(error)
    assert "folder/compress-bench.x" in error.hint


def test_text_of_a_device_keeps_its_lines_and_loses_what_a_terminal_obeys():
    assert printable("a\nb\x1b]0;title\x07c\r\té") == "a\nb ]0;title c  é"
