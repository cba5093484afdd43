import subprocess

import pytest

from toolchain.bench.hosts import parse_host
from toolchain.errors import HostError


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("ssh://pi@board", ["--", "pi@board"]),
        ("ssh://board", ["--", "board"]),
        ("ssh://pi@board.local:2222", ["-p", "2222", "--", "pi@board.local"]),
        ("ssh://pi@board.local:2222/", ["-p", "2222", "--", "pi@board.local"]),
        ("ssh://pi@[fe80::1%eth0]:2222", ["-p", "2222", "--", "pi@fe80::1%eth0"]),
        ("ssh://[::1]", ["--", "::1"]),
    ],
)
def test_ssh_addresses_are_handed_to_the_client(text, end):
    host = parse_host(text)
    assert list(host.prefix[-len(end) :]) == end
    assert host.joined
    assert host.name == text


def test_the_client_checks_the_host_key_and_never_asks():
    options = parse_host("ssh://pi@board").prefix
    assert "StrictHostKeyChecking=yes" in options
    assert "BatchMode=yes" in options
    assert not [option for option in options if option.replace(" ", "").lower().endswith("hostkeychecking=no")]


@pytest.mark.parametrize(
    "text",
    [
        "ssh://-oProxyCommand=touch${IFS}hole",
        "ssh://-oProxyCommand=touch hole/",
        "ssh://pi@-oProxyCommand=touch",
        "ssh://-oProxyCommand=x@board",
        "ssh://pi@board`touch hole`",
        "ssh://$(touch hole)@board",
        "ssh://pi@board;touch",
        "ssh://pi@board touch",
        "ssh://pi@bo'ard",
        "ssh://pi@%h",
        "ssh://@board",
        "ssh://pi@",
        "ssh://",
        "ssh://pi@board:22x",
        "ssh://pi@board:99999",
        "ssh://pi@board/folder",
        "ssh://pi@board?a=b",
        "ssh://pi@board\nProxyCommand",
        "ssh://[::1",
        "ssh://pi@[-oProxyCommand=x]",
        "http://board",
        "",
        "'unbalanced",
        "no-such-command-anywhere -i box",
    ],
)
def test_what_is_no_device_is_refused(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HostError):
        parse_host(text)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("text", "hint"), [("pi@board", "ssh://pi@board?"), ("board.local", "ssh://board.local?")])
def test_what_one_gives_to_ssh_hints_at_its_form_here(text, hint):
    with pytest.raises(HostError, match="there is no command") as caught:
        parse_host(text)
    assert caught.value.hint.endswith(hint)


def test_a_password_is_neither_used_nor_shown():
    with pytest.raises(HostError, match="password") as caught:
        parse_host("ssh://pi:secret@board")
    assert "secret" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("prefix", ["env", "env -i", "nice -n 1", """sh -c 'exec "$@"' name"""])
def test_a_command_that_hands_arguments_on_gets_them_one_by_one(prefix):
    host = parse_host(prefix)
    assert not host.joined
    assert subprocess.run(host.command("echo 'a  b'"), capture_output=True, check=True).stdout == b"a  b\n"


@pytest.mark.parametrize("prefix", ["""sh -c 'eval "$*"' name""", """sh -c 'exec sh -c "$*"' name"""])
def test_a_command_that_joins_arguments_gets_them_quoted(prefix):
    host = parse_host(prefix)
    assert host.joined
    assert subprocess.run(host.command("echo 'a  b'"), capture_output=True, check=True).stdout == b"a  b\n"


def test_a_command_that_runs_nothing_is_named_with_what_it_said():
    with pytest.raises(HostError, match="exit code 3: no such box") as caught:
        parse_host("sh -c 'echo no such box >&2; exit 3'")
    assert "docker exec -i box" in caught.value.hint
