"""Runs on the device: keeps one folder, takes files, runs commands in it, and removes everything when it ends.

Sent through the connection and never stored there. Python 3.8 and newer, standard library only, any POSIX system. The
other side asks by lines of JSON on standard input, and is answered by lines of JSON on standard output:

    {"do": "put", "name": NAME, "bytes": N} and N bytes    {"done": true} or {"failed": TEXT, "errno": E}
    {"do": "run", "arguments": [...]}                      {"line": TEXT} or {"alive": true}, any number; then
                                                           {"exit": CODE, "tail": TEXT, "oom": BOOL}
    {"do": "get", "name": NAME}                            {"bytes": N} and N bytes, or {"failed": TEXT, "errno": E}
    {"do": "end"}                                          {"removed": BOOL}

``CODE`` is negative for a signal. The end of standard input ends everything at once, whatever runs: a connection that
is cut, or a Ctrl-C on the other side, leaves nothing behind.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator  # Python 3.8 has it in annotations only
from pathlib import Path
from typing import Any, BinaryIO

CHUNK = 1 << 16
TAIL = 4000  # characters of a command's last words
ALIVE_S = 5.0
VM_COUNTERS = Path("/proc/vmstat")


class GoneError(Exception):
    """The other side has left."""


class Keeper:
    """One folder and one conversation."""

    def __init__(self, folder: Path, asked: BinaryIO, answers: BinaryIO) -> None:
        self.folder, self.asked, self.answers = folder, asked, answers

    def serve(self) -> None:
        """Answer until told to end, or until nobody asks any more."""
        free_bytes = shutil.disk_usage(self.folder).free
        self.tell({"ready": str(self.folder), "python": sys.version.split()[0], "free_bytes": free_bytes})
        while True:
            line = self.asked.readline()
            if not line:
                raise GoneError
            request = json.loads(line)
            if request["do"] == "put":
                self.put(self.place(request["name"]), request["bytes"])
            elif request["do"] == "run":
                self.run(request["arguments"])
            elif request["do"] == "get":
                self.get(self.place(request["name"]))
            elif request["do"] == "end":
                shutil.rmtree(self.folder, ignore_errors=True)
                self.tell({"removed": not self.folder.exists()})
                return

    def tell(self, answer: dict[str, Any]) -> None:
        """Send one line."""
        self.answers.write(json.dumps(answer).encode() + b"\n")
        self.answers.flush()

    def place(self, name: str) -> Path:
        """Return the path of a file in the folder; one outside of it is refused."""
        path = Path(name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError("not inside the folder: " + name)
        return self.folder / path

    def put(self, path: Path, count: int) -> None:
        """Store the next ``count`` bytes; they are read in any case, so that the conversation can go on."""
        parts = self.parts(count)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                for part in parts:
                    file.write(part)
        except OSError as error:
            for _ in parts:
                pass
            self.tell({"failed": str(error), "errno": error.errno})
        else:
            self.tell({"done": True})

    def parts(self, count: int) -> Iterator[bytes]:
        """Yield the next ``count`` bytes."""
        while count:
            part = self.asked.read(min(count, CHUNK))
            if not part:
                raise GoneError
            count -= len(part)
            yield part

    def get(self, path: Path) -> None:
        """Send a file."""
        try:
            file = path.open("rb")
        except OSError as error:
            self.tell({"failed": str(error), "errno": error.errno})
            return
        with file:
            self.tell({"bytes": os.fstat(file.fileno()).st_size})
            shutil.copyfileobj(file, self.answers, CHUNK)
            self.answers.flush()

    def run(self, arguments: list[str]) -> None:
        """Run Python with these arguments in the folder, pass its lines on, and say how it ended."""
        killed_before = oom_kills()
        environment = dict(os.environ, TMPDIR=str(self.folder), PYTHONDONTWRITEBYTECODE="1", PYTHONUNBUFFERED="1")
        read, write = os.pipe()
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=write,
            stderr=write,
            start_new_session=True,  # so that whatever it starts can be ended with it
        )
        os.close(write)
        try:
            tail = self.listen(read)
            code = process.wait()
        finally:
            os.close(read)
            end(process)
        oom = code == -signal.SIGKILL and oom_kills() > killed_before
        self.tell({"exit": code, "tail": tail, "oom": oom})

    def listen(self, output: int) -> str:
        """Pass the command's lines on until it ends, and return the last ones. Nothing may be asked meanwhile."""
        tail, line, told = "", b"", time.monotonic()
        with selectors.DefaultSelector() as both:
            both.register(output, selectors.EVENT_READ)
            both.register(self.asked, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in both.select(ALIVE_S)]
                if self.asked in ready:
                    raise GoneError
                part = os.read(output, CHUNK) if output in ready else None
                if part == b"":
                    return tail + line.decode(errors="replace")
                *lines, line = (line + (part or b"")).split(b"\n")
                line = line[-CHUNK:]  # one without end would fill the memory of both sides
                for text in (whole.decode(errors="replace") for whole in lines):
                    tail = (tail + text + "\n")[-TAIL:]
                    self.tell({"line": text})
                if lines or time.monotonic() - told >= ALIVE_S:
                    self.tell({"alive": True})
                    told = time.monotonic()


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill the command and everything that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except OSError:
        process.kill()
    process.wait()


def oom_kills() -> int:
    """Return how many processes the system has killed for memory; 0 where it does not tell."""
    try:
        counters = dict(line.split() for line in VM_COUNTERS.read_text().splitlines())
    except (OSError, ValueError):
        return 0
    return int(counters.get("oom_kill", 0))


def main(folder: Path) -> None:
    """Serve the other side of standard input and output in ``folder``."""
    signal.signal(signal.SIGTERM, lambda signum, _frame: sys.exit(128 + signum))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else prints does not get between the answers
    try:
        serve(folder, answers)
    except (GoneError, BrokenPipeError):
        os._exit(1)  # nobody is left to be told


def serve(folder: Path, answers: BinaryIO) -> None:
    """Serve the other side of standard input, and remove the folder in any case."""
    try:
        Keeper(folder, sys.stdin.buffer, answers).serve()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
