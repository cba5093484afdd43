"""A headless Chromium for tests, driven over its DevTools protocol on a pipe: nothing but the standard library.

https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

FETCHED = Path(__file__).parents[1] / ".venv" / "browser" / "chromium"  # by `make browser`
SECONDS = 120
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome-headless-shell")


def find_browser():
    """Return the path of a Chromium: ``$CHROMIUM``, one that is installed, or the one that was fetched; or None."""
    found = [os.environ.get("CHROMIUM"), *map(shutil.which, NAMES), str(FETCHED) if FETCHED.exists() else None]
    return next((path for path in found if path), None)


@contextmanager
def open_browser(path):
    """Yield a ``Page`` of a browser that is closed at the end."""
    child_reads, write = _pipe()
    read, child_writes = _pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:  # its children end a moment later
        log = Path(profile) / "stderr"
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
        process = os.posix_spawn(
            path,
            [path, *flags, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"],
            _environment(Path(path), Path(profile)),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, log, os.O_WRONLY | os.O_CREAT, 0o600),
                (os.POSIX_SPAWN_DUP2, child_reads, 3),  # where the protocol's pipe is
                (os.POSIX_SPAWN_DUP2, child_writes, 4),
            ],
        )
        os.close(child_reads)
        os.close(child_writes)
        try:
            with os.fdopen(write, "wb") as out, os.fdopen(read, "rb") as into:
                yield Page(log, out, into)
        finally:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)


def _pipe():
    """Return both ends of a pipe, away from the numbers that the browser's ends get."""
    ends = os.pipe()
    moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return moved


def _environment(path, profile):
    """Return the variables of a fetched browser, whose libraries and fonts lie beside it."""
    if path != FETCHED:
        return os.environ
    folder = path.parent
    fonts = profile / "fonts.conf"
    folders = "".join(f"<dir>{place}</dir>" for place in ("/usr/share/fonts", folder / "fonts"))
    fonts.write_text(f"<fontconfig>{folders}<cachedir>{profile}</cachedir></fontconfig>")
    libraries = os.pathsep.join([str(folder), str(folder / "al2023" / "lib"), os.environ.get("LD_LIBRARY_PATH", "")])
    return os.environ | {"LD_LIBRARY_PATH": libraries, "FONTCONFIG_FILE": str(fonts), "HOME": str(profile)}


class Page:
    """A tab: ``show`` a file, ``ask`` a JavaScript expression, take a ``picture``; ``complaints`` are the console's."""

    def __init__(self, log, out, into):
        self._log, self._out, self._into = log, out, into
        self._number, self._session, self._rest = 0, None, b""
        self.complaints = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def show(self, path, width, dark=False, media="screen"):
        """Load a file at ``width`` pixels of CSS, in the light or dark scheme, as on a screen or in print."""
        self.complaints.clear()
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self._call("Page.navigate", url=path.resolve().as_uri())
        self.ask("new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', done))")

    def ask(self, expression):
        """Return the value of a JavaScript expression, as JSON has it."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def picture(self, path):
        """Write a PNG of the whole page."""
        answer = self._call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def pdf(self, path):
        """Write the page as it is printed, on A4."""
        answer = self._call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, preferCSSPageSize=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def _call(self, method, **parameters):
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        self._out.flush()
        answer = self._wait(lambda found: found.get("id") == number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def _wait(self, wanted):
        while True:
            message = self._read()
            self._note(message)
            if wanted(message):
                return message

    def _read(self):
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._into], [], [], SECONDS)
            chunk = os.read(self._into.fileno(), 1 << 16) if ready else b""
            if not ready:
                raise RuntimeError(f"the browser has not answered for {SECONDS} s")
            if not chunk:
                raise RuntimeError(f"the browser ended: {self._log.read_text(errors='replace')[-2000:]}")
            self._rest += chunk
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def _note(self, message):
        method, found = message.get("method"), message.get("params", {})
        if method == "Log.entryAdded":
            self.complaints.append(found["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(found["exceptionDetails"]["text"])
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(str(found["args"]))
        elif method == "Network.requestWillBeSent" and not found["request"]["url"].startswith("file:"):
            self.complaints.append(f"loads {found['request']['url']}")


if __name__ == "__main__":
    sys.exit(find_browser() is None)
