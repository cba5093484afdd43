"""A real SSH server on loopback, for one test session: OpenSSH's, or asyncssh's where that is not installed.

Run as a script, this file is the asyncssh server.
"""

import asyncio
import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

KINDS = ("openssh", "asyncssh")
SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
STARTS_S = 20.0

SSHD_CONFIG = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
SetEnv TMPDIR={temporary}
"""

# In front of the real client: the tests' own keys and known hosts, in place of those in the home folder.
CLIENT = """#!/bin/sh
exec {ssh} -F {folder}/client_config "$@"
"""
CLIENT_CONFIG = """
IdentityFile {folder}/user_key
IdentitiesOnly yes
UserKnownHostsFile {folder}/known_hosts
GlobalKnownHostsFile /dev/null
"""


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        port: on 127.0.0.1.
        folder: keys, known hosts, and ``bin`` with the client that uses them.
        temporary: ``TMPDIR`` of every session; empty when nothing is left behind.
    """

    port: int
    folder: Path
    temporary: Path

    @property
    def url(self):
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}"


def missing(kind):
    """Return why this kind of server cannot run here, or None."""
    if not all(map(shutil.which, ("ssh", "ssh-keygen"))):
        return "OpenSSH's client is not installed"
    if kind == "openssh" and SSHD is None:
        return "OpenSSH's server is not installed"
    if kind == "openssh" and os.getuid() == 0 and not Path("/run/sshd").is_dir():
        return "OpenSSH's server run by root wants the folder /run/sshd"
    return None


def keys(folder):
    """Make the keys of both sides, and let the client know the server's."""
    for name in ("host_key", "user_key"):
        made = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "a test", "-f", folder / name]
        subprocess.run(made, check=True, stdin=subprocess.DEVNULL)


def start(kind, folder, temporary):
    """Return the process of a server, and its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "sshd_config"
    config.write_text(SSHD_CONFIG.format(port=port, folder=folder, temporary=temporary))
    commands = {
        "openssh": [SSHD, "-D", "-e", "-f", config],
        "asyncssh": [sys.executable, __file__, str(port), folder, temporary],
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(commands[kind], stdout=log, stderr=log)
    end = time.monotonic() + STARTS_S
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.02)
    else:
        process.kill()
        raise RuntimeError(f"{kind} did not start: {(folder / 'log').read_text()}")
    known = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {known}")
    return process, port


def install_client(folder):
    """Put the client that uses the keys in ``folder`` into ``folder/bin``."""
    (folder / "client_config").write_text(CLIENT_CONFIG.format(folder=folder))
    client = folder / "bin" / "ssh"
    client.parent.mkdir()
    client.write_text(CLIENT.format(ssh=shutil.which("ssh"), folder=folder))
    client.chmod(0o755)


async def serve(port, folder, temporary):
    """Run every command as the current user, with ``TMPDIR`` and nothing else of the environment but its PATH."""
    import asyncssh  # noqa: PLC0415 - only in the server's own process

    class Anybody(asyncssh.SSHServer):
        def begin_auth(self, _username):
            return True

    async def handle(process):
        environment = {"PATH": os.defpath, "HOME": str(Path.home()), "TMPDIR": temporary}
        started = subprocess.Popen(
            ["/bin/sh", "-c", process.command],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        await process.redirect(stdin=started.stdin, stdout=started.stdout, stderr=started.stderr)
        code = await asyncio.to_thread(started.wait)
        await process.stdout.drain()
        process.exit(code)

    await asyncssh.create_server(
        Anybody,
        "127.0.0.1",
        port,
        server_host_keys=[f"{folder}/host_key"],
        authorized_client_keys=f"{folder}/user_key.pub",
        process_factory=handle,
        encoding=None,
    )
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
