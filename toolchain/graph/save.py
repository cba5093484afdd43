"""Writes ONNX files; nothing is half-written."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
from google.protobuf.message import EncodeError

from toolchain.errors import ExportError, ModelError
from toolchain.graph.build import find_constants
from toolchain.graph.constants import Constant, bytes_of, dtype_of, same_bits, shape_of, store
from toolchain.graph.external import SourceFile, Span, is_external, span_of, tensors_of
from toolchain.graph.io import MAX_PROTOBUF_BYTES, model_files
from toolchain.graph.model import Graph

COPY_BYTES = 1 << 22

Write = Callable[[BinaryIO], object]
Edits = Mapping[str, list[tuple[Span, np.ndarray]]]  # new values by the external data file's location
_Held = tuple[str, np.ndarray | None]  # a tensor's name and its new values, None where it keeps its own


def save_graph(graph: Graph, path: Path, values: Mapping[str, np.ndarray]) -> None:
    """Write a model as it was read, but for the initializers in ``values``.

    Without any, every file has the bytes of the one that was read. Values are encoded as those that they replace, in
    the file or in the external data file, which is written beside ``path`` under the name that it has beside the
    original. Every file is there as a whole or not at all.

    Args:
        graph: the model. If it has external data, nothing that it was read from may have changed. Of a model without,
            whose file is gone, all fields are kept, in the order that protobuf gives them.
        path: the file to write; not what the model was read from.
        values: of the initializer's shape and element type, by name; float tensors only.

    Raises:
        ExportError: a file cannot be written, is an original, or belongs to something else; an original has changed;
            a value does not fit; tensors that share their place in a file have got different values.
    """
    files = graph.source.data if graph.source else {}
    _check_target(path, [file.path for file in files.values()] + ([graph.path] if graph.path else []))
    edits: Edits = {}
    if values:
        data, edits = _edited(graph, values)
    else:
        data = _original(graph)
    targets = _data_targets(path, files, edits)
    contents: dict[Path, Write] = {
        target: _copier(files[location], edits.get(location, [])) for location, target in targets.items()
    }
    _make_folders(path.parent, targets.values())
    _write_files(contents | {path: lambda file: file.write(data)})


def save_proto(proto: onnx.ModelProto, path: Path) -> None:
    """Write ``proto`` to ``path`` by atomic rename: the file appears whole or not at all.

    Raises:
        ExportError: the folder cannot be written or the model is larger than a protobuf may be.
    """
    write_atomically(path, _serialized(proto))


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` so that the file appears whole or not at all.

    Raises:
        ExportError: the folder cannot be written.
    """
    _write_files({path: lambda file: file.write(data)})


def _serialized(proto: onnx.ModelProto) -> bytes:
    try:
        data = proto.SerializeToString()
    except EncodeError as error:
        raise ExportError("the model is larger than an ONNX file may be, 2 GiB") from error
    if len(data) > MAX_PROTOBUF_BYTES:
        raise ExportError(f"the model has {len(data):,} bytes, an ONNX file may have 2 GiB")
    return data


def _original(graph: Graph) -> bytes:
    """Return the bytes that the model was read from, or the like of them where they are gone."""
    source = graph.source
    if source is None:
        return _serialized(graph.proto)
    if isinstance(source.model, bytes):
        return source.model
    for file in source.data.values():
        _check_unchanged(file)
    if source.data:
        _check_unchanged(source.model)  # the proto says no more how its tensors lie in the data
    elif not source.model.is_unchanged:
        return _serialized(graph.proto)
    try:
        return source.model.path.read_bytes()
    except OSError as error:
        raise ExportError(f"cannot read {source.model.path}: {error.strerror}") from error


def _check_unchanged(file: SourceFile) -> None:
    if not file.is_unchanged:
        raise ExportError(
            f"{file.path} is gone or was written to since the model was loaded from it", hint="load the model again"
        )


def _edited(graph: Graph, values: Mapping[str, np.ndarray]) -> tuple[bytes, Edits]:
    """Return the model with other values, and those that belong into its external data files, by location."""
    proto = onnx.ModelProto.FromString(_original(graph))
    constants = find_constants(proto)
    _check_values(constants, values)
    outside: dict[int, np.ndarray] = {}
    for name, array in values.items():
        constant = constants[name]
        if isinstance(constant, onnx.TensorProto) and is_external(constant):
            outside[id(constant)] = array
        else:
            store(constant, array)
    return _serialized(proto), _external_edits(proto, outside)


def _check_values(constants: Mapping[str, Constant], values: Mapping[str, np.ndarray]) -> None:
    """Check that every value fits what holds it, and is the value of all that is held there."""
    names: dict[int, list[str]] = {}
    for name, constant in constants.items():
        names.setdefault(id(constant), []).append(name)
    for name, array in values.items():
        constant = constants[name]
        if (array.shape, array.dtype) != (shape_of(constant), dtype_of(constant)):
            raise ExportError(
                f"weight {name!r} is {array.dtype} {list(array.shape)}, "
                f"the file has {dtype_of(constant)} {list(shape_of(constant))}",
                hint="bring the module back to the types and shapes that it was loaded with",
            )
        for other in names[id(constant)]:
            if other not in values or not same_bits(values[other], array):
                raise ExportError(f"{name!r} and {other!r} are one tensor in the file, and have got different values")


def _external_edits(proto: onnx.ModelProto, outside: Mapping[int, np.ndarray]) -> Edits:
    """Return what is to be written where, by location; ``outside`` has the new values by the tensor's identity."""
    held: dict[Span, list[_Held]] = {}
    for tensor in tensors_of(proto):
        if is_external(tensor) and span_of(tensor).length:
            held.setdefault(span_of(tensor), []).append((tensor.name, outside.get(id(tensor))))
    edits: dict[str, list[tuple[Span, np.ndarray]]] = {}
    for location in dict.fromkeys(span.location for span in held):
        spans = sorted((span for span in held if span.location == location), key=lambda span: span.offset)
        _check_overlaps(spans, held)
        found = [(span, array) for span in spans for _, array in held[span][:1] if array is not None]
        if found:
            edits[location] = found
    return edits


def _check_overlaps(spans: Iterable[Span], held: Mapping[Span, Sequence[_Held]]) -> None:
    """Check that nothing which shares bytes of a file with others has got other values than they.

    Args:
        spans: of one file, by offset.
        held: what lies there.
    """
    widest: Span | None = None
    widest_edit: Span | None = None
    for span in spans:
        arrays = [array for _, array in held[span]]
        edited = any(array is not None for array in arrays)
        before = widest if edited else widest_edit
        overlaps = before is not None and span.offset < before.end
        if overlaps or (edited and not all(same_bits(arrays[0], array) for array in arrays)):
            others = held[before] if before is not None and overlaps else ()
            names = dict.fromkeys(name for name, _ in (*others, *held[span]))
            raise ExportError(
                f"tensors {', '.join(map(repr, names))} share bytes in {span.location}, and have got different values",
                hint="give each its own: onnx.save_model(onnx.load(model), path, save_as_external_data=True)",
            )
        widest = span if widest is None or span.end > widest.end else widest
        if edited:
            widest_edit = span if widest_edit is None or span.end > widest_edit.end else widest_edit


def _check_target(path: Path, originals: Iterable[Path]) -> None:
    if path.is_dir():
        raise ExportError(f"{path} is a folder", hint=f"name a file, such as {path / 'model.onnx'}")
    if not path.exists():
        return
    if not path.is_file():
        raise ExportError(f"{path} is a device or a pipe, not a file")
    if any(original.exists() and path.samefile(original) for original in originals):
        raise ExportError(f"{path} is what the model was read from", hint="save to another file")


def _data_targets(path: Path, files: Mapping[str, SourceFile], edits: Edits) -> dict[str, Path]:
    """Return where external data files are to be written, by location; an unchanged one may stay where it is."""
    targets: dict[str, Path] = {}
    earlier: list[Path] | None = None
    for location, file in files.items():
        target = path.parent / location
        if target == path:
            raise ExportError(f"{path} is the name that the model's external data need", hint="save to another file")
        if target.exists():
            if target.samefile(file.path):
                if location in edits:
                    raise ExportError(
                        f"{target} holds weights that the model was read from", hint="save into another folder"
                    )
                continue
            earlier = _files_at(path) if earlier is None else earlier
            if target not in earlier:
                raise ExportError(
                    f"{target} is there already, and no part of a model at {path}", hint="save into another folder"
                )
        targets[location] = target
    return targets


def _make_folders(folder: Path, files: Iterable[Path]) -> None:
    """Make the folders inside ``folder``, if that is there, that the files are to lie in."""
    for file in files:
        if folder.is_dir() and file.parent != folder:
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ExportError(f"cannot make the folder {file.parent}: {error.strerror}") from error


def _files_at(path: Path) -> list[Path]:
    """Return the files of the model that is about to be replaced; none where there is none."""
    try:
        return model_files(path) if path.is_file() else []
    except ModelError:
        return []


def _copier(file: SourceFile, edits: Iterable[tuple[Span, np.ndarray]]) -> Write:
    def write(target: BinaryIO) -> None:
        with file.path.open("rb") as source:
            shutil.copyfileobj(source, target, COPY_BYTES)
        for span, array in edits:
            target.seek(span.offset)
            target.write(bytes_of(array).data)

    return write


def _write_files(contents: Mapping[Path, Write]) -> None:
    """Write files of which none appears before all are complete; the last one appears last."""
    with ExitStack() as stack:
        done: dict[Path, Path] = {}
        for path, write in contents.items():
            try:
                handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            except OSError as error:
                raise ExportError(f"cannot write to {path.parent}: {error.strerror}") from error
            done[path] = Path(name)
            stack.callback(done[path].unlink, missing_ok=True)
            try:
                _fill(handle, write)
            except OSError as error:
                raise ExportError(f"cannot write {path}: {error.strerror}") from error
        umask = os.umask(0)
        os.umask(umask)
        for path, written in done.items():
            try:
                written.chmod(0o666 & ~umask)  # mkstemp makes private files; a model is an ordinary one
                written.replace(path)
            except OSError as error:
                raise ExportError(f"cannot write {path}: {error.strerror}") from error


def _fill(handle: int, write: Write) -> None:
    with os.fdopen(handle, "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())  # else a crash after the rename could leave an empty file under the final name
