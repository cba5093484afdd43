"""The official cases that the onnx wheel carries: which there are, which are relevant, how each is run and judged."""

import warnings
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import torch
from known_gaps import KNOWN_GAPS, Gap
from onnx.backend.test.loader import load_model_tests

from toolchain.errors import ToolchainError
from toolchain.graph import load_graph
from toolchain.module import OnnxModule
from toolchain.ops import find, to_numpy

# How a case is computed: by operator functions, also by function bodies of ONNX, or in part by ONNX Runtime.
OWN, BODY, ISLAND = "own function", "function body", "island"

TRAINING_DOMAINS = ("ai.onnx.training", "ai.onnx.preview.training")

# Two units in the last place of bfloat16: what onnx.backend.test.runner allows where the case asks for less.
BFLOAT16_RTOL = 2**-6


@dataclass(frozen=True)
class Outcome:
    """What became of one case.

    Attributes:
        way: ``OWN``, ``BODY`` or ``ISLAND``; ``""`` where the model could not be imported.
        error: why it failed, in one line; ``""`` where it passed.
        gap: the known gap that it is, or None.
    """

    way: str
    error: str
    gap: Gap | None

    @property
    def passed(self):
        return not self.error

    @property
    def surprise(self):
        """What is not as the table of known gaps says, or ``""``."""
        if self.error and self.gap is None:
            return self.error
        return "passes, and is listed as a known gap" if self.passed and self.gap and self.gap.always else ""


def load_cases():
    """Return all cases; onnx takes some seconds to compute them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some expected values overflow as onnx computes them
        return load_model_tests(kind="node")


def load_model_cases():
    """Return the few official cases of small models; no node case is about sequences that are put together."""
    return [_read(case) for case in load_model_tests(kind="simple")]


def _read(case):
    folder = Path(case.model_dir)
    data_sets = [
        tuple([onnx.load_tensor(path) for path in sorted(data.glob(f"{kind}_*.pb"))] for kind in ("input", "output"))
        for data in sorted(folder.glob("test_data_set_*"))
    ]
    return replace(case, model=onnx.load(folder / "model.onnx"), data_sets=data_sets)


def is_relevant(case):
    """Return whether tensors go in and come out, none of strings, and no operator is for training only."""
    values = (*case.model.graph.input, *case.model.graph.output)
    tensors = all(value.type.WhichOneof("value") == "tensor_type" for value in values)
    strings = any(value.type.tensor_type.elem_type == onnx.TensorProto.STRING for value in values)
    return tensors and not strings and not any(map(_trains, case.model.graph.node))


def _trains(node):
    asked = {attribute.name: attribute.i for attribute in node.attribute}
    return (
        node.domain in TRAINING_DOMAINS
        or (node.op_type == "BatchNormalization" and asked.get("training_mode") == 1)
        or (node.op_type == "Dropout" and len(node.input) == 3)  # the third says whether to drop; cases say yes
    )


def operators(graph):
    """Return ``(domain, operator)`` of the nodes of a graph, constants aside."""
    return {(node.domain, node.op_type) for node in graph.node if node.op_type != "Constant"}


def all_operators(graph):
    """Return those of its subgraphs as well."""
    bodies = [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
    return operators(graph).union(*map(all_operators, bodies))


def has_body(case):
    """Return whether the case is about one operator, which ONNX defines by others."""
    if len(operators(case.model.graph)) != 1:
        return False
    node = next(node for node in case.model.graph.node if node.op_type != "Constant")
    versions = {entry.domain: entry.version for entry in case.model.opset_import}
    try:
        schema = onnx.defs.get_schema(node.op_type, versions[node.domain], node.domain)
    except onnx.defs.SchemaError:
        return False
    return schema.has_function or schema.has_context_dependent_function


def by_its_body(case):
    """Run a case as if its operator had no function of its own."""
    replaced = operators(case.model.graph)

    def others(node):
        return None if (node.domain, node.op) in replaced else find(node)

    with mock.patch("toolchain.execution.program.find", others):
        return outcome_of(case)


def gap_of(case):
    return next((gap for pattern, gap in KNOWN_GAPS.items() if fnmatchcase(case.name, pattern)), None)


def outcome_of(case):
    """Run a case and compare what it gives with what onnx expects."""
    way = ""
    torch.manual_seed(0)
    try:
        module = OnnxModule(load_graph(case.model)).eval()
        way = way_of(module)
        for inputs, outputs in case.data_sets:
            with torch.no_grad():
                results = module(feed_of(module.graph, inputs))
            for result, expected in zip(results.values(), map(plain, outputs), strict=True):
                assert_same(result, expected, case.rtol, case.atol)
    except (AssertionError, ToolchainError, ValueError) as error:
        return Outcome(way, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", gap_of(case))
    return Outcome(way, "", gap_of(case))


def way_of(module):
    if module.program.islands:
        return ISLAND
    return OWN if all(find(node) for node in module.graph.walk()) else BODY


def feed_of(graph, inputs):
    return {value.name: plain(item) for value, item in zip(graph.inputs, inputs, strict=True)}


def plain(value):
    """Return a value of a case as an array, a list of them, or None."""
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    return None if value is None else np.asarray(value)


def assert_same(result, expected, rtol, atol):
    """Assert that a result has the expected type, shape and values, within the tolerance of onnx's own runner."""
    if isinstance(expected, list):
        assert isinstance(result, list)
        assert len(result) == len(expected)
        for item, wanted in zip(result, expected, strict=True):
            assert_same(item, wanted, rtol, atol)
        return
    got = to_numpy(result) if isinstance(result, torch.Tensor) else result
    assert isinstance(got, np.ndarray), f"{type(got).__name__} for an array"
    assert got.shape == expected.shape
    if expected.dtype.kind in "OU":
        assert got.dtype.kind in "OU"
        assert got.tolist() == expected.tolist()
        return
    assert got.dtype == expected.dtype
    if expected.dtype.name == "bfloat16":
        rtol = max(rtol, BFLOAT16_RTOL)
    np.testing.assert_allclose(comparable(got), comparable(expected), rtol=rtol, atol=atol)


def comparable(values):
    """Return values in a type of numpy's own: it cannot subtract all of those that onnx adds."""
    return values if values.dtype.isbuiltin == 1 else values.astype(np.float32)
