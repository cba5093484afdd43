"""Which device ``--on`` names, and the command line that starts a shell there."""

import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from urllib.parse import urlsplit

from toolchain.errors import HostError, nearest

# ssh(1) reads what begins with "-" as an option and hands the names to ProxyCommand of the user's configuration, so
# only what real names are made of gets there.
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+\-]*")
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.\-]*[A-Za-z0-9_])?")
_ADDRESS = re.compile(r"[0-9A-Fa-f:.]+(%[A-Za-z0-9_.\-]+)?")  # IPv6, with its zone

SSH_OPTIONS = (
    "BatchMode=yes",  # nobody is there to type a password
    "StrictHostKeyChecking=yes",  # also where the user's configuration is more trusting
    "UpdateHostKeys=no",  # leaves known_hosts as it is
    "ConnectTimeout=20",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=4",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "RequestTTY=no",
    "RemoteCommand=none",
    "ControlMaster=no",  # a connection that is there is used, none is left open
)
ANSWER = "compress-42"
QUESTION = "echo compress-$((6*7))"
QUESTION_S = 60.0


@dataclass(frozen=True)
class Host:
    """A device, and how to run ``sh -c SCRIPT`` there.

    Attributes:
        name: as the user wrote it.
        prefix: what comes before the command.
        joined: what follows the prefix is joined by spaces and read by a shell there, as ssh and adb do it; otherwise
            it reaches the device as separate arguments.
        own_session: it runs without the terminal, whose Ctrl-C then ends this program alone.
    """

    name: str
    prefix: tuple[str, ...]
    joined: bool
    own_session: bool

    def command(self, script: str) -> list[str]:
        """Return the arguments that run ``script`` in a POSIX shell on the device."""
        if self.joined:
            return [*self.prefix, f"exec sh -c {shlex.quote(script)}"]
        return [*self.prefix, "sh", "-c", script]


def parse_host(text: str) -> Host:
    """Return the device that ``text`` names: ``ssh://[user@]host[:port]``, or a command that runs others on it.

    A command is run once, to learn whether it hands arguments on or joins them.

    Raises:
        HostError: neither, or the command runs nothing.
    """
    if os.name == "nt":
        raise HostError("--on needs Linux or macOS on this side", "copy by hand: --script, and --from its result")
    if not text.isprintable():
        raise HostError(f"--on {text!r} holds what cannot be printed")
    if text.startswith("ssh://"):
        return _ssh(text)
    if "://" in text.split(" ", maxsplit=1)[0]:
        raise HostError(f"--on {text!r} is of no known kind", "ssh://user@host[:port], or a command such as ssh box")
    return _prefixed(text)


def _ssh(text: str) -> Host:
    form = "ssh://user@host or ssh://user@host:2222; keys, jump hosts and short names come from ~/.ssh/config"
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError as error:
        raise HostError(f"--on {text!r}: {error}", form) from error
    if url.path.strip("/") or url.query or url.fragment:
        raise HostError(f"--on {text!r} has something after the host", form)
    user, _, place = url.netloc.rpartition("@")
    if ":" in user:
        raise HostError("--on holds a password, which would be seen by everybody on this machine", "use a key")
    if ("@" in url.netloc or user) and not _USER.fullmatch(user):
        raise HostError(f"--on {text!r}: {user!r} is no user name", form)
    bracketed = re.fullmatch(r"\[(.+)\](:\d+)?", place)
    host = bracketed.group(1) if bracketed else place.partition(":")[0]
    if not (_ADDRESS if bracketed else _NAME).fullmatch(host):
        raise HostError(f"--on {text!r}: {host!r} is no host name", form)
    if shutil.which("ssh") is None:
        raise HostError("there is no ssh here", "install OpenSSH's client, or copy by hand: compress bench --script")
    options = [part for option in SSH_OPTIONS for part in ("-o", option)]
    where = ["-p", str(port)] if port is not None else []
    return Host(text, ("ssh", *options, *where, "--", f"{user}@{host}" if user else host), True, True)


def _prefixed(text: str) -> Host:
    try:
        prefix = tuple(shlex.split(text))
    except ValueError as error:
        raise HostError(f"--on {text!r} cannot be split into words: {error}") from error
    if not prefix:
        raise HostError("--on is empty", "ssh://user@host[:port], or a command such as docker exec -i box")
    if shutil.which(prefix[0]) is None:
        hint = nearest(prefix[0], ("ssh", "docker", "podman", "adb", "kubectl", "sudo", "nice", "env"))
        if len(prefix) == 1 and re.search(r"[@.]", text):  # what one gives to ssh itself
            hint = f"did you mean ssh://{text}?"
        raise HostError(f"--on {text!r}: there is no command {prefix[0]!r} here", hint)
    said = []
    for joined in (False, True):
        host = Host(text, prefix, joined, own_session=False)
        try:
            done = subprocess.run(
                host.command(QUESTION), stdin=subprocess.DEVNULL, capture_output=True, timeout=QUESTION_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise HostError(f"--on {text!r} did not run `sh`: {error}") from error
        if ANSWER in done.stdout.decode(errors="replace").split():
            return host
        said.append((done.stderr or done.stdout).decode(errors="replace").strip()[-400:])
    raise HostError(
        f"--on {text!r} did not run `sh -c '{QUESTION}'`, exit code {done.returncode}: {said[0] or 'it said nothing'}",
        "it is put before a command, as in: docker exec -i box, adb shell, sudo nice -n -5",
    )
