"""Reads and writes ONNX files; nothing is half-written and nothing outside the model's folder is read."""

import os
import tempfile
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import external_data_helper

from toolchain.errors import ExportError, ModelError
from toolchain.graph.build import build_graph
from toolchain.graph.model import Graph

# A protobuf message must stay below 2 GiB; larger models keep their tensors in external data.
MAX_PROTOBUF_BYTES = 2**31 - 1


def load_graph(source: str | os.PathLike[str] | bytes | onnx.ModelProto) -> Graph:
    """Read an ONNX model, with the external data beside it, from a path, bytes or a proto.

    Raises:
        ModelError: the file is missing, is not ONNX, is truncated, is invalid, or lacks its external data.
    """
    if isinstance(source, onnx.ModelProto):
        return build_graph(_checked(source, "the model"))
    if isinstance(source, bytes):
        return build_graph(_checked(_parse(source, "the given bytes"), "the given bytes"))
    path = Path(source)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}", hint="give the path of an .onnx file") from error
    proto = _parse(data, str(path))
    del data
    _load_external_data(proto, path)
    return build_graph(_checked(proto, str(path)), path)


def _parse(data: bytes, where: str) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise ModelError(
            f"{where} is not an ONNX file, or it is truncated ({len(data):,} bytes read)",
            hint="download or export the model again; a .pt, .tflite or .pb file must be exported to ONNX first",
        ) from error
    if not proto.graph.node or not proto.opset_import:
        raise ModelError(
            f"{where} holds no ONNX graph ({len(data):,} bytes read)",
            hint="download or export the model again; a .pt, .tflite or .pb file must be exported to ONNX first",
        )
    return proto


def _load_external_data(proto: onnx.ModelProto, path: Path) -> None:
    folder = path.parent.resolve()
    tensors = [t for t in proto.graph.initializer if external_data_helper.uses_external_data(t)]
    for tensor in tensors:
        info = external_data_helper.ExternalDataInfo(tensor)
        file = (folder / info.location).resolve()
        if not file.is_relative_to(folder):
            raise ModelError(f"{path}: tensor {tensor.name!r} points outside the model's folder, to {info.location!r}")
        needed = (info.offset or 0) + (info.length or 0)
        if not file.is_file() or file.stat().st_size < needed:
            state = f"has {file.stat().st_size:,} bytes, {needed:,} expected" if file.is_file() else "is missing"
            raise ModelError(
                f"{path}: external data file {info.location!r} of tensor {tensor.name!r} {state}",
                hint="copy the external data file into the folder of the .onnx file",
            )
        external_data_helper.load_external_data_for_tensor(tensor, str(folder))
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _checked(proto: onnx.ModelProto, where: str) -> onnx.ModelProto:
    if proto.ByteSize() > MAX_PROTOBUF_BYTES:
        return proto  # the checker serialises; a graph this large is checked by the importer and the runtime
    try:
        onnx.checker.check_model(proto)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ModelError(f"{where} is not a valid ONNX model: {str(error).strip()}") from error
    return proto


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
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)  # mkstemp makes private files; a model is an ordinary one
        Path(name).replace(path)
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror}") from error
    finally:
        Path(name).unlink(missing_ok=True)
