"""Checks that a session decodes the packed tensors once, at load, and not at every inference."""

import tempfile
from pathlib import Path

import onnx

from toolchain.errors import ExportError
from toolchain.export.sessions import open_session
from toolchain.graph import Graph

# A session leaves it on constants where it has no integer operator for what follows; it is no decoding.
_MAY_REMAIN = ("DequantizeLinear",)

# What a session calls the values inside an operator of the model for which it has no kernel, but a function.
_INLINED = "_inlfunc_"


def optimized_graph(model: onnx.ModelProto | Path | bytes) -> onnx.GraphProto:
    """Return the graph that an ONNX Runtime session on the CPU executes, without the values of large constants.

    Raises:
        ExportError: the session does not load the model.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        open_session(model, threads=1, optimized=path)
        return onnx.load(path, load_external_data=False).graph


def check_folded(model: Path | bytes, original: Graph | None = None) -> None:
    """Raise if the session still has nodes that depend on constants alone: they would run at every inference.

    Args:
        model: the written file.
        original: what it was written from. Its own nodes are no decoding, nor is what follows from them: ONNX Runtime
            folds no NonZero or Compress of a constant, whoever wrote it.

    Raises:
        ExportError: such a node other than DequantizeLinear remains, or the session does not load the model.
    """
    graph = optimized_graph(model)
    own = set() if original is None else {name for node in original.nodes for name in node.outputs}
    constant = {tensor.name for tensor in graph.initializer} | {item.values.name for item in graph.sparse_initializer}
    constant.add("")
    remaining = []
    for node in graph.node:
        is_own = all(name in own or name.startswith(_INLINED) for name in node.output)
        if node.input and constant.issuperset(node.input) and not is_own:
            constant.update(node.output)
            if node.op_type not in _MAY_REMAIN:
                remaining.append(node)
    if remaining:
        kinds = ", ".join(sorted({node.op_type for node in remaining}))
        raise ExportError(
            f"{len(remaining)} decode nodes ({kinds}) would run at every inference; the first makes "
            f"{remaining[0].output[0]!r}",
            hint="this version of ONNX Runtime does not fold them when it loads the model",
        )
