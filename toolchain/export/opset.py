"""Raises a model's opset where the file needs operators that its own does not have."""

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from toolchain.errors import ExportError
from toolchain.graph import Graph
from toolchain.graph.build import build_graph

# Packed tensors are decoded by operators of this opset.
PACKED_OPSET = 11

# Other operator versions may sum in another order.
_TOLERANCE = 1e-5


def raise_opset(graph: Graph, needed: int) -> Graph:
    """Return the graph at the opset that packed tensors and the kernels need, or as it is where it has it already.

    A graph that cannot be converted, or that computes something else afterwards, stays as it is, when the kernels can
    be written all the same: its tensors are then stored by what its opset has.

    Raises:
        ExportError: the kernels need the newer opset and the graph cannot be converted to it.
    """
    if graph.opset >= max(needed, PACKED_OPSET):
        return graph
    target = max(needed, PACKED_OPSET)
    try:
        proto = onnx.version_converter.convert_version(graph.proto, target)
        onnx.checker.check_model(proto)
        converted = build_graph(proto, graph.path)
        problem = _difference(graph, converted)
    except (RuntimeError, ValueError, IndexError, onnx.checker.ValidationError) as error:
        problem = str(error).strip()
    if not problem:
        proto.ir_version = max(
            graph.proto.ir_version, helper.find_min_ir_version_for(proto.opset_import, ignore_unknown=True)
        )
        return converted
    if needed > graph.opset:
        raise ExportError(
            f"the chosen kernels need opset {needed}, the model has {graph.opset} and cannot be raised: {problem}",
            hint="keep all nodes in float",
        )
    return graph


def _difference(before: Graph, after: Graph) -> str:
    """Return in what ``after`` differs from ``before``; empty when names are the same and results agree."""
    if missing := before.initializers.keys() - after.initializers.keys():
        return f"initializer {min(missing)!r} was lost"
    made = {name for node in after.nodes for name in node.outputs}
    if missing := {name for node in before.nodes for name in node.outputs} - made:
        return f"value {min(missing)!r} was lost"
    generator = np.random.default_rng(0)
    feeds = {}
    for value in before.inputs:
        shape = [size if isinstance(size, int) and size > 0 else 1 for size in value.shape or ()]
        feeds[value.name] = generator.standard_normal(shape).astype(value.dtype)
    for name, old, new in zip(
        (value.name for value in before.outputs), _run(before, feeds), _run(after, feeds), strict=True
    ):
        if old.dtype.kind == "f" and np.abs(old - new).max(initial=0) > _TOLERANCE * np.abs(old).max(initial=1e-6):
            return f"output {name!r} differs by {np.abs(old - new).max():.2g}"
    return ""


def _run(graph: Graph, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph.proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs: list[np.ndarray] = session.run(None, feeds)
    return outputs
