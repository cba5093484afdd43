"""Small models to measure, feeds for them, and an SSH server on loopback with the client that knows it."""

import os

import numpy as np
import onnx
import onnx.parser
import pytest
import sshd
from onnx import numpy_helper

MLP = """
<ir_version: 8, opset_import: ["" : 13]>
mlp (float[N,6] x) => (float[N,4] logits)
{
    hidden = Gemm<transB = 1>(x, first_weight)
    active = Relu(hidden)
    logits = Gemm<transB = 1>(active, second_weight)
}
"""


def mlp(path, width=16):
    """Write a perceptron of one hidden layer, and return its path."""
    proto = onnx.parser.parse_model(MLP)
    rng = np.random.default_rng(0)
    for name, shape in (("first_weight", (width, 6)), ("second_weight", (4, width))):
        proto.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name))
    onnx.save(proto, path)
    return path


def write(path, text):
    """Write a model given as text, and return its path."""
    onnx.save(onnx.parser.parse_model(text), path)
    return path


@pytest.fixture
def models(tmp_path):
    return mlp(tmp_path / "original.onnx", 64), mlp(tmp_path / "compressed.onnx", 16)


@pytest.fixture
def unknown_operator(tmp_path):
    return write(
        tmp_path / "unknown.onnx",
        '<ir_version: 8, opset_import: ["" : 13, "com.example" : 1]> '
        "agraph (float[N,6] x) => (float[N,6] y) { y = com.example.Frobnicate (x) }",
    )


@pytest.fixture
def make_model(tmp_path):
    def make(text, name="model"):
        return write(tmp_path / f"{name}.onnx", text)

    return make


@pytest.fixture
def feeds(tmp_path):
    path = tmp_path / "feeds.npz"
    np.savez(path, np.ones((2, 6), np.float32))
    return str(path)


def figures(name, p50_ms, spread=0.01, **more):
    """Return a model of a bench document, whose intervals are ``spread`` to either side of its figures."""
    around = [p50_ms * (1 - spread), p50_ms * (1 + spread)]
    return {
        "name": name,
        "error": None,
        "memory": {"load_bytes": 5_000_000, "peak_bytes": 6_000_000},
        **{f"{statistic}_ms": p50_ms for statistic in ("p50", "p90", "p99", "mean", "load")},
        **{f"{statistic}_ci95_ms": around for statistic in ("p50", "p90", "p99", "mean", "load")},
        "runs": 500,
        "quantiles_ms": [p50_ms],
        "throughput_per_s": 1e3 / p50_ms,
        "sessions": 8,
        **more,
    }


def document(before_ms=2.0, after_ms=1.0, spread=0.01, **case):
    """Return a bench document of two models in one case."""
    speedup = before_ms / after_ms
    compared = {"speedup": speedup, "speedup_ci95": [speedup * (1 - spread), speedup * (1 + spread)]}
    models = [
        figures("a.onnx", before_ms, spread),
        figures("b.onnx", after_ms, spread, **compared, noisy=False, noise=""),
    ]
    environment = {"cpu": "CPU 9000", "gpu": None, "governor": None, "cores": 2, "onnxruntime": "1.0", "python": "3.11"}
    return {
        "schema": 1,
        "kind": "bench",
        "settings": {"optimization": "all", "seconds": 6.0},
        "models": [
            {"name": "a.onnx", "path": "a.onnx", "sha256": "aa", "file_bytes": 2_000_000, "gzip_bytes": 1_000_000},
            {"name": "b.onnx", "path": "b.onnx", "sha256": "bb", "file_bytes": 50_000, "gzip_bytes": 40_000},
        ],
        "notes": [],
        "environments": {"this machine": environment},
        "cases": [
            {
                "host": "this machine",
                "provider": "CPUExecutionProvider",
                "device": "CPU 9000",
                "threads": 1,
                "batch": 1,
                "transfers": "in",
                "preempted_per_s": 1.0,
                "error": None,
                "models": models,
                **case,
            }
        ],
    }


@pytest.fixture
def make_document():
    return document


def _serve(kind, folder):
    reason = sshd.missing(kind)
    if reason:
        pytest.skip(reason)
    temporary = folder / "temporary"
    temporary.mkdir()
    sshd.keys(folder)
    process, port = sshd.start(kind, folder, temporary)
    sshd.install_client(folder)
    yield sshd.Server(port, folder, temporary)
    process.terminate()
    process.wait()


@pytest.fixture(scope="session", params=sshd.KINDS)
def any_server(request, tmp_path_factory):
    yield from _serve(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="session")
def one_server(tmp_path_factory):
    kind = next((kind for kind in sshd.KINDS if sshd.missing(kind) is None), sshd.KINDS[0])
    yield from _serve(kind, tmp_path_factory.mktemp("server"))


def _reach(server, monkeypatch):
    monkeypatch.setenv("PATH", f"{server.folder / 'bin'}:{os.environ['PATH']}")
    assert not list(server.temporary.iterdir()), "left behind by the test before"
    return server


@pytest.fixture
def anywhere(any_server, monkeypatch):
    """Both kinds of server, one after the other."""
    return _reach(any_server, monkeypatch)


@pytest.fixture
def device(one_server, monkeypatch):
    """OpenSSH's server where it is installed, else the other."""
    return _reach(one_server, monkeypatch)
