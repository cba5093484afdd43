"""A small classifier, a version of it with zeros, and a report measured on both."""

import copy
from dataclasses import asdict

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper, parser

from calibration.dataset import Batch, Dataset, Preprocessing
from toolchain.export.differences import TensorDifference
from toolchain.graph import load_graph
from toolchain.measure import (
    Measurements,
    build_report,
    measure_latency,
    quality_section,
    size_section,
    weights_section,
)
from toolchain.module import OnnxModule

CLASSIFIER = """
<ir_version: 8, opset_import: ["" : 13]>
classifier (float[{batch},6] x) => (float[{batch},4] logits)
{{
    hidden = Gemm<transB = 1>(x, first_weight)
    active = Relu(hidden)
    logits = Gemm<transB = 1>(active, second_weight)
}}
"""


SHAPES = {"first_weight": (16, 6), "second_weight": (4, 16)}


def classifier(batch, keep=1.0):
    """Return the model with random weights; those beyond the share ``keep`` of the largest are zero."""
    proto = parser.parse_model(CLASSIFIER.format(batch=batch))
    rng = np.random.default_rng(0)
    for name, shape in SHAPES.items():
        values = rng.standard_normal(shape).astype(np.float32)
        values[np.abs(values) < np.quantile(np.abs(values), 1 - keep)] = 0
        proto.graph.initializer.append(numpy_helper.from_array(values, name))
    return proto


@pytest.fixture
def make_models(tmp_path):
    def make(batch="N", keep=0.25):
        paths = tmp_path / "original.onnx", tmp_path / "compressed.onnx"
        onnx.save(classifier(batch), paths[0])
        onnx.save(classifier(batch, keep), paths[1])
        return paths

    return make


def samples(count, labels=True, kind="task"):
    rng = np.random.default_rng(1)
    return Dataset(
        inputs={"x": rng.standard_normal((count, 6)).astype(np.float32)},
        labels=rng.integers(0, 4, count) if labels else None,
        preprocessing=Preprocessing(),
        kind=kind,
        source="random samples of a test",
    )


@pytest.fixture
def make_samples():
    return samples


@pytest.fixture(scope="session")
def measured(tmp_path_factory):
    """A report of a real measurement; only its convergence log and its plan are made up."""
    folder = tmp_path_factory.mktemp("report")
    paths = folder / "original.onnx", folder / "compressed.onnx"
    onnx.save(classifier("N"), paths[0])
    onnx.save(classifier("N", keep=0.25), paths[1])
    module = OnnxModule(load_graph(paths[0]))
    for name, weight in module.weights().items():
        weight.data = torch.from_numpy(load_graph(paths[1]).initializers[name].copy())
    log = [
        {
            "phase": phase,
            "step": step,
            "loss": 1 / (1 + step),
            "kept": 160 - step,
            "primal": 0.5**step,
            "dual": 0.3**step,
            "selection_accuracy": 0.9 + 0.01 * step,
        }
        for phase in ("prune", "quantize")
        for step in range(10)
    ]
    return build_report(
        Measurements(
            original=paths[0],
            compressed=paths[1],
            plan=[
                {
                    "step": "prune",
                    "says": "prune 2 tensors to 40 of 160 weights (4x)",
                    "allocate": "auto",
                    "groups": [{"structure": "unstructured"}],
                }
            ],
            seed=0,
            size=size_section(*paths),
            weights=weights_section(module.graph, module, {}),
            quality=quality_section(*paths, samples(40), threads=1),
            latency=measure_latency(*paths, Batch({"x": np.zeros((1, 6), np.float32)}, None), threads=1, seconds=0.1),
            parity={
                "judged": "end to end",
                "max_abs_error": 1e-6,
                "tolerance": 1e-4,
                "outputs": [],
                "tensors": [
                    asdict(TensorDifference("hidden", "Gemm", 2.5e-7, 3.0)),
                    asdict(TensorDifference("inside", "MatMul", None, None, "it lies in a branch")),
                    asdict(TensorDifference("logits", "Gemm", float("inf"), 1.0)),
                ],
            },
            timings={"total_s": 1.5},
            convergence=log,
            phases=[
                {"phase": phase, "steps": 9, "epochs": 0.9, "planned_epochs": 15.0} for phase in ("prune", "quantize")
            ],
            notes=["The last 40 samples were held out."],
        )
    )


@pytest.fixture
def report(measured):
    return copy.deepcopy(measured)
