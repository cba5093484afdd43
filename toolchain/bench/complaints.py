"""What stands in the way of a device, in words that say what to do."""

from toolchain.errors import HostError

SHOWN = 600  # characters of what ssh or the device said
SSH_FAILED = 255

NO_PYTHON, OLD_PYTHON, NO_FOLDER = 91, 92, 93  # exit codes of the script that starts there; transport.SCRIPT
NOT_EXECUTABLE, COMMAND_NOT_FOUND = 126, 127

_BY_HAND = "connect by hand once, with the same user and port"
_UNREACHABLE = "check the name, that the device is on, and that this network reaches it: ssh -v says more"

# What OpenSSH's client says, what it means, and what to do. The first that fits counts.
_SSH_SAYS = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "has another host key than the one that is known: it was set up anew, or somebody is in between",
        "compare the fingerprint on the device itself; ssh-keygen -R HOST then forgets the old key",
    ),
    (
        "Host key verification failed",
        "has a host key that is not known here",
        f"{_BY_HAND}, compare the fingerprint that ssh shows, and answer yes",
    ),
    (
        "No matching host key",
        "and this ssh have no kind of host key in common",
        "see HostKeyAlgorithms in man ssh_config",
    ),
    (
        "Permission denied",
        "does not let this user in without a password",
        "ssh-copy-id puts your key there; a key of another name: IdentityFile in ~/.ssh/config",
    ),
    ("Could not resolve hostname", "is not a name that resolves", _UNREACHABLE),
    ("Connection refused", "refuses connections: no ssh server listens on that port", "give it: ssh://user@host:port"),
    ("timed out", "does not answer", _UNREACHABLE),
    ("No route to host", "is not reachable from here", _UNREACHABLE),
    ("Network is unreachable", "is not reachable from here", _UNREACHABLE),
)


def printable(text: str) -> str:
    """Return text of another machine without what a terminal would obey."""
    return "".join(mark if mark.isprintable() or mark == "\n" else " " for mark in text)


def not_started(name: str, python: str, parent: str, code: int | None, said: str) -> HostError:
    """Return the error of a device on which the measurement could not begin.

    Args:
        name: the device.
        python: the command of Python there.
        parent: where the folder was to be.
        code: exit code of the connection; None where it had to be cut.
        said: what it or the device said.
    """
    reasons = {
        NO_PYTHON: (
            f"{name} has no command {python!r}",
            "install Python 3.8 or newer there, or name it: --python /path/to/python3",
        ),
        OLD_PYTHON: (f"{python!r} on {name} is older than Python 3.8", "name a newer one: --python /path/to/python3"),
        NO_FOLDER: (
            f"{name} has no room for a folder{f' in {parent!r}' if parent else ''}: {said[-SHOWN:]}",
            "name one that can be written: --remote-folder /path",
        ),
        NOT_EXECUTABLE: (
            f"{name} cannot execute {python!r}: {said[-SHOWN:]}",
            "name Python's own command there: --python /path/to/python3",
        ),
        COMMAND_NOT_FOUND: (
            f"{name} lacks a command: {said[-SHOWN:]}",
            f"it needs {python!r}, or another --python, and a POSIX shell with mktemp and rm, as BusyBox has them",
        ),
    }
    if code in reasons:
        return HostError(*reasons[code])
    return gone(name, "", said or "it said nothing", code)


def gone(name: str, folder: str, said: str, code: int | None) -> HostError:
    """Return the error of a connection that was not made, or ended by itself.

    Args:
        name: the device.
        folder: what is on the device; empty where nothing was there yet.
        said: what the connection's command said.
        code: its exit code; None where it had to be cut.
    """
    said = printable(said).strip()
    if code == SSH_FAILED and not folder:
        for words, meaning, hint in _SSH_SAYS:
            if words in said:
                return HostError(f"{name} {meaning} ({said.splitlines()[-1]})", hint)
    said, ended = said[-SHOWN:], f", exit code {code}" if code else ""
    if folder:
        return HostError(
            f"{name} went away while it measured{ended}: {said}",
            f"it removes {folder} by itself as soon as it notices; if it was switched off: rm -r {folder}",
        )
    return HostError(f"{name} cannot be reached{ended}: {said}", _UNREACHABLE)
