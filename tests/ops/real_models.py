"""Real models that lie beside the repository, and how the module is compared with ONNX Runtime on them."""

import runpy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from toolchain.errors import ToolchainError
from toolchain.graph import load_graph
from toolchain.module import OnnxModule
from toolchain.ops import to_numpy

MODELS = (Path(__file__).parents[2] / ".." / "shared" / "models").resolve()
FILES = sorted(MODELS.rglob("*.onnx"))

OWN_SHAPES = {"causal_transformer": (1, 32), "lstm_gru_asr": (1, 40, 50)}

# Of the largest result, by what the results are held in.
BOUND = 1e-4
HALF_BOUND = 5e-3


@dataclass(frozen=True)
class NodeError:
    """How far one node's results are off on the inputs that ONNX Runtime has for it.

    Attributes:
        name: of the node.
        op: its operator.
        error: the module's results against ONNX Runtime's, relative to the largest.
        own: the module's results against onnx's reference in double precision; None where ``error`` is small, as then
            nobody asks, or where the reference has no answer.
        runtime: ONNX Runtime's results against that reference.
        bound: what ``error`` may be.
        failure: why the node cannot be run, or ``""``.
    """

    name: str
    op: str
    error: float
    own: float | None
    runtime: float | None
    bound: float
    failure: str = ""

    @property
    def agrees(self):
        """True also where ONNX Runtime is the one that is off."""
        return self.error <= self.bound or (self.own is not None and self.own <= min(self.bound, self.runtime))


def session(model):
    """Return a session that runs the graph as it stands; ``model`` is a path or serialized."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def feed_of(path, graph, seed=0):
    """Return inputs that the model at ``path`` is meant for."""
    if path.parent.name == "zoo":
        make = runpy.run_path(str(MODELS / "zoo" / "inputs.py"))["make"]
        return make(path.stem, graph.proto, seed)
    rng = np.random.default_rng(seed)
    feed = {}
    for value in graph.inputs:
        prefix = next((name for name in OWN_SHAPES if path.stem.startswith(name)), None)
        shape = OWN_SHAPES[prefix] if prefix else [size if isinstance(size, int) else 2 for size in value.shape]
        random = rng.integers(0, 1000, shape) if value.dtype.kind == "i" else rng.standard_normal(shape)
        feed[value.name] = random.astype(value.dtype)
    return feed


def bound_of(array):
    return HALF_BOUND if array.dtype.itemsize == 2 else BOUND


def error_of(got, wanted):
    """Return the largest difference over the largest value; infinity where type, shape or an integer differs."""
    if got.dtype != wanted.dtype or got.shape != wanted.shape:
        return np.inf
    return distance(got, wanted)


def distance(got, wanted):
    """Return the largest difference over the largest value, both in double precision."""
    if wanted.dtype.kind not in "fV":
        return 0.0 if np.array_equal(got, wanted) else np.inf
    got, wanted = got.astype(np.float64), wanted.astype(np.float64)
    special = ~np.isfinite(wanted)
    if not np.array_equal(got[special], wanted[special], equal_nan=True):
        return np.inf
    got, wanted = got[~special], wanted[~special]
    largest = np.abs(wanted).max(initial=0)
    return float(np.abs(got - wanted).max(initial=0) / (largest if largest else 1))


def run_module(module, feed):
    with torch.no_grad():
        return {name: to_numpy(value) for name, value in module(feed).items()}


def node_by_node(graph, feed):
    """Run every node on the values that ONNX Runtime has there, and return how far its results are off."""
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    names = [name for node in proto.graph.node for name in node.output if name]
    del proto.graph.output[:]
    proto.graph.output.extend(map(helper.make_empty_tensor_value_info, names))
    values = feed | dict(zip(names, session(proto.SerializeToString()).run(names, feed), strict=True))
    constants = {name: graph.initializers[name] for name in graph.initializers}
    nodes = [node for node in proto.graph.node if node.op_type != "Constant"]
    return [error_of_node(proto, node, values, constants) for node in nodes]


def error_of_node(proto, node, values, constants):
    read = [name for name in names_read(node) if name in values or name in constants]
    inputs = {name: values[name] for name in read if name not in constants}
    wanted = {name: values[name] for name in node.output if name}
    version = max(proto.ir_version, 4)  # from which on an initializer need not be an input
    model = onnx.ModelProto(ir_version=version, opset_import=proto.opset_import, functions=proto.functions)
    graph = helper.make_graph(
        [node],
        "node",
        [typed(name, array) for name, array in inputs.items()],
        [typed(name, array) for name, array in wanted.items()],
        [numpy_helper.from_array(constants[name], name) for name in read if name in constants],
    )
    model.graph.CopyFrom(graph)
    bound = max(map(bound_of, wanted.values()))
    try:
        module = OnnxModule(load_graph(model)).eval()
        got = run_module(module, inputs)
    except ToolchainError as error:
        return NodeError(node.name, node.op_type, np.inf, None, None, bound, str(error))
    error = max(error_of(got[name], wanted[name]) for name in wanted)
    own, runtime = (None, None) if error <= bound else against_double(model, inputs, got, wanted)
    return NodeError(node.name, node.op_type, error, own, runtime, bound)


def against_double(model, inputs, got, wanted):
    """Return the errors of ``got`` and of ``wanted`` against onnx's reference in double precision.

    The reference is numpy code of its own: the module in double precision would repeat whatever the module does wrong.
    Both are None where the reference cannot run the node, or not in double precision.
    """
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for tensor in wide.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(widened(numpy_helper.to_array(tensor)), tensor.name))
    try:
        evaluator = ReferenceEvaluator(wide)
        exact = evaluator.run(None, {name: widened(array) for name, array in inputs.items()})
    except Exception:  # noqa: BLE001 - whatever numpy code raises on types that it was not written for
        return None, None
    exact = dict(zip(wanted, exact, strict=True))
    if any(array.dtype == np.float32 for array in exact.values()):
        return None, None
    return tuple(max(distance(result[name], exact[name]) for name in wanted) for result in (got, wanted))


def widened(array):
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def names_read(node):
    """Return the values that a node reads, those that its subgraphs take from around it included."""
    names = dict.fromkeys(filter(None, node.input))
    for attribute in node.attribute:
        graph = attribute.g
        made = {value.name for value in (*graph.input, *graph.initializer)}
        made |= {name for inner in graph.node for name in inner.output}
        read = [name for inner in graph.node for name in names_read(inner)] + [value.name for value in graph.output]
        names |= dict.fromkeys(name for name in read if name not in made)
    return list(names)


def typed(name, array):
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), [None] * array.ndim)
