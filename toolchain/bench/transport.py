"""The connection to a device: one process here, one folder there, which goes when the connection does.

Nothing of the user's reaches a command line on the device: the command is always ``SCRIPT``, and names, files and
arguments follow through standard input. What it starts is ``keeper.py``, whose docstring is the protocol.
"""

import contextlib
import json
import os
import selectors
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from toolchain.bench.complaints import NO_FOLDER, NO_PYTHON, OLD_PYTHON, gone, not_started, printable
from toolchain.bench.hosts import Host
from toolchain.errors import HostError

CHUNK = 1 << 16
SILENCE_S = 120.0  # the keeper says every 5 s that it lives; a board that swaps may take longer
GOODBYE_S = 10.0
NOISE_BYTES = 1 << 16  # what a login may print before the keeper speaks
LONGEST_LINE = 1 << 20  # the keeper cuts lines of what it runs far below
LARGEST_FILE = 1 << 30  # that is taken from a device
READY = b'{"ready": '

KEEPER = Path(__file__).with_name("keeper.py")
# Begins without f-strings and the like, so that an old Python can still say that it is too old. The first entry of the
# path would be the folder in which the login ends, where a numpy.py may lie.
_LOADER = (
    f"import sys; sys.version_info < (3, 8) and sys.exit({OLD_PYTHON}); sys.path[:] = [p for p in sys.path if p]; "
    "exec(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())))"
)
# One line without single quotes, backslashes and exclamation marks, which every login shell hands on as it is. Ctrl-C
# and a hang-up are ignored: the end of standard input tells the same, in every kind of connection.
SCRIPT = (
    'IFS= read -r python; IFS= read -r parent; trap "" INT HUP; umask 077; '
    f'command -v "$python" >/dev/null 2>&1 || exit {NO_PYTHON}; '
    'folder=$(mktemp -d "${parent:-${TMPDIR:-/tmp}}/compress-bench.XXXXXX") '
    f"|| exit {NO_FOLDER}; "
    'tidy() { rm -rf "$folder"; }; trap tidy EXIT; trap "exit 143" TERM; '
    f'"$python" -B -c "{_LOADER}" "$folder"; exit $?'
)


@dataclass(frozen=True)
class Ended:
    """How a command on the device ended.

    Attributes:
        code: its exit code, or the negative number of the signal that killed it.
        tail: its last words.
        oom: the system killed a process for memory meanwhile.
    """

    code: int
    tail: str
    oom: bool


class Connection:
    """A folder on a device, and Python in it.

    Attributes:
        name: of the device.
        folder: its path there.
        python: the version of Python there.
        free_bytes: free space where the folder is.
    """

    def __init__(self, host: Host, process: subprocess.Popen[bytes], said: BinaryIO) -> None:
        self._process, self._said = process, said
        self._unread = b""
        self.name = host.name
        self.folder, self.python, self.free_bytes = "", "", 0

    def start(self, python: str, parent: str) -> None:
        """Start the keeper with the command ``python``, and its folder inside ``parent``.

        Raises:
            HostError: what is in the way.
        """
        source = KEEPER.read_bytes()
        with contextlib.suppress(HostError):  # what the device said on leaving tells more than the broken pipe
            self._write(f"{python}\n{parent}\n{len(source)}\n".encode() + source)
        noise = b""
        while not (line := self._line()).startswith(READY):
            noise = (noise + line)[-NOISE_BYTES:]
            if not line:
                raise not_started(
                    self.name, python, parent, self._leave(), self._complaint() or noise.decode(errors="replace")
                )
        ready = json.loads(line)
        self.folder, self.python, self.free_bytes = (
            printable(ready["ready"]),
            printable(ready["python"]),
            ready["free_bytes"],
        )

    def put(self, name: str, path: Path, sent: Callable[[int], None]) -> None:
        """Copy a file to ``name`` in the folder; ``sent`` is called with the number of bytes on the way.

        Raises:
            HostError: the device is full, or gone.
        """
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            self._ask({"do": "put", "name": name, "bytes": size})
            while part := file.read(CHUNK):
                self._write(part)
                sent(len(part))
        answer = self._answer()
        if "failed" in answer:
            raise HostError(
                f"{self.name} cannot store {path.name} ({size:,} bytes): {printable(answer['failed'])}",
                "name a folder there that has room for all of it: --remote-folder /path",
            )

    def run(self, arguments: Sequence[str], heard: Callable[[str], None]) -> Ended:
        """Run Python in the folder and return how it ended; ``heard`` is called with every line that it prints.

        Raises:
            HostError: the device is gone.
        """
        self._ask({"do": "run", "arguments": list(arguments)})
        while "exit" not in (answer := self._answer()):
            if "line" in answer:
                heard(printable(answer["line"]))
        return Ended(answer["exit"], printable(answer["tail"]), answer["oom"])

    def get(self, name: str) -> bytes | None:
        """Return what the file ``name`` in the folder holds; None where there is none.

        Raises:
            HostError: the file is larger than 1 GiB, or the device is gone.
        """
        self._ask({"do": "get", "name": name})
        answer = self._answer()
        if "failed" in answer:
            return None
        if answer["bytes"] > LARGEST_FILE:
            raise HostError(
                f"{self.name} has {answer['bytes']:,} bytes in {name}, more than {LARGEST_FILE:,} are not taken",
                "measure with a smaller --batch",
            )
        return self._take(answer["bytes"])

    def finish(self) -> bool:
        """Have everything removed, and return whether it was.

        Raises:
            HostError: the device is gone.
        """
        self._ask({"do": "end"})
        return bool(self._answer()["removed"])

    def close(self) -> None:
        """Leave; the keeper notices, stops what runs and removes what is there."""
        self._leave()

    def _ask(self, request: dict[str, Any]) -> None:
        self._write(json.dumps(request).encode() + b"\n")

    def _write(self, data: bytes) -> None:
        stdin = self._process.stdin
        try:
            if stdin is not None:
                stdin.write(data)
                stdin.flush()
        except OSError as error:
            raise self._gone() from error

    def _answer(self) -> dict[str, Any]:
        line = self._line()
        try:
            answer = json.loads(line)
        except ValueError as error:
            raise self._gone() from error
        return dict(answer)

    def _line(self) -> bytes:
        """Return the next line; empty at the end."""
        while b"\n" not in self._unread:
            if len(self._unread) > LONGEST_LINE:
                self._process.kill()
                raise gone(self.name, self.folder, "it sent a line without end", None)
            if not self._more():
                return b""
        line, _, self._unread = self._unread.partition(b"\n")
        return line + b"\n"

    def _take(self, count: int) -> bytes:
        parts, missing = [self._unread[:count]], count - len(self._unread)
        self._unread = self._unread[count:]
        while missing > 0:
            if not self._more():
                raise self._gone()
            parts.append(self._unread[:missing])
            missing, self._unread = missing - len(parts[-1]), self._unread[missing:]
        return b"".join(parts)

    def _more(self) -> bool:
        """Wait until more is there to be taken; False at the end.

        Raises:
            HostError: nothing was heard for too long.
        """
        part = self._read(SILENCE_S)
        if part is None:
            self._process.kill()
            raise gone(self.name, self.folder, f"nothing was heard of it for {SILENCE_S:.0f} s", None)
        self._unread += part
        return bool(part)

    def _read(self, seconds: float) -> bytes | None:
        """Return what is there within so many seconds: empty at the end, None where nothing came."""
        stdout = self._process.stdout
        if stdout is None:
            return b""
        with selectors.DefaultSelector() as heard:
            heard.register(stdout, selectors.EVENT_READ)
            return os.read(stdout.fileno(), CHUNK) if heard.select(max(seconds, 0)) else None

    def _leave(self) -> int | None:
        """Close the connection and return the exit code; None where it had to be cut."""
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        end = time.monotonic() + GOODBYE_S
        while self._read(end - time.monotonic()):
            pass
        try:
            return self._process.wait(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return None

    def _complaint(self) -> str:
        """Return what the connection's own command said."""
        self._said.seek(0)
        return printable(self._said.read().decode(errors="replace")).strip()

    def _gone(self) -> HostError:
        code = self._leave()
        return gone(self.name, self.folder, self._complaint() or "the connection ended", code)


@contextlib.contextmanager
def connect(host: Host, python: str = "python3", parent: str = "") -> Iterator[Connection]:
    """Open a folder on the device; it is removed at the end, after an error and after Ctrl-C as well.

    Args:
        host: the device.
        python: the command of Python there.
        parent: where to make the folder; its ``$TMPDIR``, else ``/tmp``, if empty.

    Raises:
        HostError: the device cannot be reached, or has no usable Python or folder.
    """
    for what, text in (("--python", python), ("--remote-folder", parent)):
        if "\n" in text or "\0" in text:
            raise HostError(f"{what} {text!r} holds a line break")
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(
            host.command(SCRIPT),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            start_new_session=host.own_session,
            env={**os.environ, "LC_ALL": "C"},  # what ssh complains about is recognised by its words
        ) as process,
    ):
        connection = Connection(host, process, said)
        try:
            connection.start(python, parent)
            yield connection
        finally:
            connection.close()
