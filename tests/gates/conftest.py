"""Reports to judge: the sections that gates look at, filled by hand, and a whole one that was measured."""

import copy

import pytest
from small_run import compress_small

REPORT = {
    "model": {"path": "model.onnx", "sha256": "0" * 64},
    "compressed": {"path": "out/small.onnx", "sha256": "1" * 64},
    "size": {"original_bytes": 4_000_000, "compressed_bytes": 2_000_000, "ratio": 2.0},
    "quality": {
        "metric": "top-1 accuracy",
        "original": 0.99,
        "compressed": 0.985,
        "drop": 0.99 - 0.985,
        "drop_ci95": [0.001, 0.009],
        "samples": 2000,
        "data": "task",
    },
    "latency": [
        {
            "provider": "CPUExecutionProvider",
            "device": "Some CPU @ 2.00GHz",
            "threads": 1,
            "batch": 1,
            "original": {"p50_ms": 10.0, "p50_ci95_ms": [9.9, 10.1]},
            "compressed": {"p50_ms": 4.9, "p50_ci95_ms": [4.8, 5.1]},
            "speedup": 2.04,
            "speedup_ci95": [1.98, 2.1],
            "memory": {"original": {"peak_bytes": 20_000_000}, "compressed": {"peak_bytes": 10_000_000}},
        },
        {
            "provider": "CPUExecutionProvider",
            "device": "Cortex-A72",
            "host": "pi@kitchen",
            "threads": 4,
            "batch": 1,
            "original": {"p50_ms": 100.0, "p50_ci95_ms": [99.0, 101.0]},
            "compressed": {"p50_ms": 20.0, "p50_ci95_ms": [19.0, 21.0]},
            "speedup": 5.0,
            "speedup_ci95": [4.9, 5.1],
        },
        {
            "provider": "CUDAExecutionProvider",
            "device": "Some GPU",
            "threads": 1,
            "batch": 1,
            "error": "no driver",
        },
    ],
}


@pytest.fixture
def report():
    return copy.deepcopy(REPORT)


@pytest.fixture(scope="session")
def compressed(tmp_path_factory):
    """A small model, compressed and measured."""
    return compress_small(tmp_path_factory.mktemp("small"))
