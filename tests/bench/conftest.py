"""An SSH server on loopback, and the client that knows it."""

import os

import pytest
import sshd


def _serve(kind, folder):
    reason = sshd.missing(kind)
    if reason:
        pytest.skip(reason)
    temporary = folder / "temporary"
    temporary.mkdir()
    sshd.keys(folder)
    process, port = sshd.start(kind, folder, temporary)
    sshd.install_client(folder)
    return process, sshd.Server(port, folder, temporary)


@pytest.fixture(scope="session", params=sshd.KINDS)
def any_server(request, tmp_path_factory):
    """Both servers, one after the other."""
    process, server = _serve(request.param, tmp_path_factory.mktemp(request.param))
    yield server
    process.terminate()
    process.wait()


@pytest.fixture(scope="session")
def one_server(tmp_path_factory):
    """OpenSSH's server where it is installed."""
    kind = next((kind for kind in sshd.KINDS if sshd.missing(kind) is None), sshd.KINDS[0])
    process, server = _serve(kind, tmp_path_factory.mktemp("server"))
    yield server
    process.terminate()
    process.wait()


def _reach(server, monkeypatch):
    monkeypatch.setenv("PATH", f"{server.folder / 'bin'}:{os.environ['PATH']}")
    assert not list(server.temporary.iterdir()), "left behind by the test before"
    return server


@pytest.fixture
def anywhere(any_server, monkeypatch):
    return _reach(any_server, monkeypatch)


@pytest.fixture
def device(one_server, monkeypatch):
    return _reach(one_server, monkeypatch)
