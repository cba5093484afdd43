"""Reads and writes ONNX files; nothing is half-written and nothing outside the model's folder is read."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import external_data_helper

from toolchain.errors import ExportError, ModelError
from toolchain.graph.build import build_graph
from toolchain.graph.model import Graph

# A protobuf message must stay below 2 GiB; larger models keep their tensors in external data.
MAX_PROTOBUF_BYTES = 2**31 - 1

EXPORT_AGAIN = "download or export the model again; a .pt, .tflite or .pb file must be exported to ONNX first"


def load_graph(source: str | os.PathLike[str] | bytes | onnx.ModelProto) -> Graph:
    """Read an ONNX model, with the external data beside it, from a path, bytes or a proto.

    Raises:
        ModelError: the file is missing, is not ONNX, is truncated, is invalid, or lacks its external data.
    """
    if isinstance(source, onnx.ModelProto):
        _check(source, "the model")
        return _graph(source, "the model", None)
    if isinstance(source, bytes):
        proto = _parse(source, "the given bytes")
        _check(proto, "the given bytes")
        return _graph(proto, "the given bytes", None)
    path = Path(source)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}", hint="give the path of an .onnx file") from error
    proto = _parse(data, str(path))
    del data
    external = [tensor for tensor in _tensors(proto.graph) if external_data_helper.uses_external_data(tensor)]
    for tensor in external:
        _load_external(tensor, path)
    # Data beside the file may make the model larger than a protobuf may be, so then the checker reads it by itself.
    _check(path if external else proto, str(path))
    return _graph(proto, str(path), path)


def model_files(path: Path) -> list[Path]:
    """Return the model file and the external data files that it refers to; no weights are read from the latter.

    Raises:
        ModelError: the model cannot be read, or points to a file that is missing or outside its folder.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}", hint="give the path of an .onnx file") from error
    folder = path.parent.resolve()
    files = {path.resolve(): path}
    for tensor in _tensors(_parse(data, str(path)).graph):
        if not external_data_helper.uses_external_data(tensor):
            continue
        location = external_data_helper.ExternalDataInfo(tensor).location
        file = (folder / location).resolve()
        if not file.is_relative_to(folder) or not file.is_file():
            raise ModelError(f"{path}: external data file {location!r} of tensor {tensor.name!r} is not in its folder")
        files[file] = file
    return list(files.values())


def _graph(proto: onnx.ModelProto, where: str, path: Path | None) -> Graph:
    try:
        return build_graph(proto, path)
    except (ValueError, TypeError, LookupError, OverflowError) as error:  # what onnx raises on damaged tensors
        raise ModelError(f"{where} is not a valid ONNX model: {error}", hint=EXPORT_AGAIN) from error


def _parse(data: bytes, where: str) -> onnx.ModelProto:
    if not data:
        raise ModelError(f"{where} is empty", hint=EXPORT_AGAIN)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise ModelError(
            f"{where} is not an ONNX file, or it is truncated ({len(data):,} bytes read)", hint=EXPORT_AGAIN
        ) from error
    # A file that is cut between two fields of the outermost message still parses: one of these is then missing.
    if not proto.graph.node or not proto.opset_import:
        missing = "nodes" if not proto.graph.node else "operator set"
        raise ModelError(f"{where} holds no ONNX graph: no {missing} in {len(data):,} bytes", hint=EXPORT_AGAIN)
    return proto


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of a graph, those in attributes and subgraphs included."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for subgraph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _tensors(subgraph)


def _load_external(tensor: onnx.TensorProto, path: Path) -> None:
    """Read a tensor's data from its file in the folder of the model at ``path``."""
    where = f"{path}: tensor {tensor.name!r}"
    folder = path.parent.resolve()
    try:
        info = external_data_helper.ExternalDataInfo(tensor)
        file = (folder / info.location).resolve()
        needed = (info.offset or 0) + (info.length or 0)
    except (ValueError, TypeError, OSError) as error:
        raise ModelError(f"{where} describes its external data wrongly: {error}") from error
    if not file.is_relative_to(folder):
        raise ModelError(f"{where} points outside the model's folder, to {info.location!r}")
    if not file.is_file() or file.stat().st_size < needed:
        state = f"has {file.stat().st_size:,} bytes, {needed:,} expected" if file.is_file() else "is missing"
        raise ModelError(
            f"{where} is in the external data file {info.location!r}, which {state}",
            hint="copy the external data file into the folder of the .onnx file",
        )
    try:
        external_data_helper.load_external_data_for_tensor(tensor, str(folder))
    except (onnx.checker.ValidationError, ValueError, OSError) as error:
        raise ModelError(f"{where} cannot be read from {info.location!r}: {error}") from error
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]


def _check(model: onnx.ModelProto | Path, where: str) -> None:
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ModelError(f"{where} is not a valid ONNX model: {str(error).strip()}") from error


def save_proto(proto: onnx.ModelProto, path: Path) -> None:
    """Write ``proto`` to ``path`` by atomic rename: the file appears whole or not at all.

    Raises:
        ExportError: the folder cannot be written or the model is larger than a protobuf may be.
    """
    if proto.ByteSize() > MAX_PROTOBUF_BYTES:
        raise ExportError(f"{path}: the model has {proto.ByteSize():,} bytes, an ONNX file holds at most 2 GiB")
    write_atomically(path, proto.SerializeToString())


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` so that the file appears whole or not at all.

    Raises:
        ExportError: the folder cannot be written.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise ExportError(f"cannot write to {path.parent}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # else a crash after the rename could leave an empty file under the final name
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)  # mkstemp makes private files; a model is an ordinary one
        Path(name).replace(path)
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror}") from error
    finally:
        Path(name).unlink(missing_ok=True)
