"""Checks that a session decodes the packed tensors once, at load, and not at every inference."""

import os
import tempfile
from pathlib import Path

import onnx
import onnxruntime

from toolchain.errors import ExportError

# A session keeps these on constants where it has no integer operator for what follows; they are cheap, and no decoding.
_MAY_REMAIN = ("DequantizeLinear",)


def optimized_graph(model: Path | bytes, threads: int = 1) -> onnx.GraphProto:
    """Return the graph that an ONNX Runtime session on the CPU executes, without its constants.

    Raises:
        ExportError: the session does not load the model.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        options.optimized_model_filepath = os.fspath(path)
        # Constants beside the graph, so that a decoded model above 2 GiB can be written too.
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "constants.bin")
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
        source = model if isinstance(model, bytes) else os.fspath(model)
        try:
            onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ExportError(f"ONNX Runtime does not load the exported model: {error}") from error
        return onnx.load(path, load_external_data=False).graph


def check_folded(model: Path | bytes) -> None:
    """Raise if the session still has nodes that depend on constants alone: they would run at every inference.

    A DequantizeLinear is let be: sessions keep those that they could not take into an integer operator.

    Raises:
        ExportError: such a node remains, or the session does not load the model.
    """
    graph = optimized_graph(model)
    constant = {tensor.name for tensor in graph.initializer} | {item.values.name for item in graph.sparse_initializer}
    constant |= {""}
    remaining = []
    for node in graph.node:
        if node.input and all(name in constant for name in node.input):
            constant |= set(node.output)
            if node.op_type not in _MAY_REMAIN:
                remaining.append(node)
    if remaining:
        kinds = ", ".join(sorted({node.op_type for node in remaining}))
        raise ExportError(
            f"{len(remaining)} decode nodes ({kinds}) would run at every inference; the first makes "
            f"{remaining[0].output[0]!r}",
            hint="this ONNX Runtime does not fold them when it loads the model; use another version",
        )
