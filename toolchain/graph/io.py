"""Reads ONNX files; nothing outside the model's folder is read."""

import os
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from toolchain.errors import ModelError
from toolchain.graph.build import build_graph
from toolchain.graph.checking import objection_to, remaining_objection
from toolchain.graph.constants import stored_bytes
from toolchain.graph.diagnosis import check_names, refuse
from toolchain.graph.external import (
    Source,
    SourceFile,
    check_sharing,
    embed,
    find_file,
    find_span,
    is_external,
    nested_tensors,
    span_of,
    tensors_of,
)
from toolchain.graph.model import Graph

# A protobuf message must stay below 2 GiB; larger models keep their tensors in external data.
MAX_PROTOBUF_BYTES = 2**31 - 1

# Smaller tensors are shapes, axes and scales, which are looked at all the time: they are never left in their files.
SMALLEST_MAPPED = 1024

EXPORT_AGAIN = "download or export the model again; a .pt, .tflite or .pb file must be exported to ONNX first"


def load_graph(source: str | os.PathLike[str] | bytes | onnx.ModelProto, largest: int = MAX_PROTOBUF_BYTES) -> Graph:
    """Read an ONNX model, with the external data beside it, from a path, bytes or a proto.

    Args:
        source: the path, the file's bytes, or the model; bytes and a proto are kept, not copied.
        largest: bytes of a model, external data included, up to which all of it is read into the graph's proto. The
            initializers of a larger one stay in their files and are mapped into memory where they are used.

    Raises:
        ModelError: the file is missing, is not ONNX, is truncated, is invalid, or lacks its external data.
    """
    if isinstance(source, onnx.ModelProto):
        return _whole(source, objection_to(source), "the model", None)
    if isinstance(source, bytes):
        objection = objection_to(source)
        return _whole(_parse(source, "the given bytes"), objection, "the given bytes", Source(source, {}))
    path = Path(source)
    file, data = read_model(path)
    # The checker parses into a copy of its own, which is gone before ours is made.
    objection = objection_to(data)
    proto = _parse(data, str(path))
    del data
    check_names(proto, str(path))
    checked = proto
    if next(_external(proto), None) is not None:
        checked = _emptied(proto)
        objection = objection_to(checked)
    refuse(checked, remaining_objection(checked, objection), str(path))
    source_files = Source(file, _read_external(proto, path, file.size, largest))
    return _graph(proto, str(path), source_files, path)


def read_model(path: Path) -> tuple[SourceFile, bytes]:
    """Return the bytes of a model file, and the file as it was when they were read.

    Raises:
        ModelError: it cannot be read, or is larger than an ONNX file may be.
    """
    try:
        file = SourceFile.of(path)
        if file.size > MAX_PROTOBUF_BYTES:
            raise _too_large(str(path), file.size)
        return file, path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}", hint="give the path of an .onnx file") from error


def model_files(path: Path) -> list[Path]:
    """Return the model file and the external data files that it refers to; no weights are read from the latter.

    Raises:
        ModelError: the model cannot be read, or points to a file that is missing or outside its folder.
    """
    proto = _parse(read_model(path)[1], str(path))
    return list(dict.fromkeys([path, *(find_file(tensor, path) for tensor in _external(proto))]))


def _whole(proto: onnx.ModelProto, objection: str, where: str, source: Source | None) -> Graph:
    """Return the graph of a model that has no files of its own."""
    tensor = next(_external(proto), None)
    if tensor is not None:
        raise ModelError(
            f"tensor {tensor.name!r} of {where} is in an external data file, whose folder is not known",
            hint="give the path of the .onnx file instead",
        )
    check_names(proto, where)
    refuse(proto, remaining_objection(proto, objection), where)
    return _graph(proto, where, source)


def _graph(proto: onnx.ModelProto, where: str, source: Source | None, path: Path | None = None) -> Graph:
    try:
        return build_graph(proto, path, source)
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:  # damage that onnx lets pass
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


def _external(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    return (tensor for tensor in tensors_of(proto) if is_external(tensor))


def _read_external(proto: onnx.ModelProto, path: Path, size: int, largest: int) -> dict[str, SourceFile]:
    """Read external tensors into a model of ``size`` bytes, or only what cannot be mapped where it becomes too large.

    Returns:
        The external data files by location.
    """
    files: dict[str, SourceFile] = {}
    for tensor in _external(proto):
        file, span = find_span(tensor, path)
        if span.location not in files:
            files[span.location] = SourceFile.of(file)
    check_sharing(list(_external(proto)), files, path)
    wanted = list(_external(proto))
    if size + sum(map(stored_bytes, wanted)) > largest:
        # Tensors inside nodes are not mapped, as nodes are handed to ONNX and to ONNX Runtime as they stand.
        small = [item for item in proto.graph.initializer if is_external(item) and stored_bytes(item) < SMALLEST_MAPPED]
        wanted = [*small, *filter(is_external, nested_tensors(proto))]
    total = size + sum(map(stored_bytes, wanted))
    if total > MAX_PROTOBUF_BYTES:
        raise _too_large(f"{path}, initializers in external data not counted,", total)
    for tensor in wanted:
        embed(tensor, files[span_of(tensor).location].path)
    return files


def _too_large(what: str, size: int) -> ModelError:
    return ModelError(
        f"{what} has {size:,} bytes, ONNX allows 2 GiB",
        hint="save its weights as external data: onnx.save_model(model, path, save_as_external_data=True)",
    )


def _emptied(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose external tensors have no elements.

    The checker would look for their files itself, and refuse the links that download caches are made of.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for tensor in _external(copy):
        tensor.dims[:] = [0]
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
    return copy
