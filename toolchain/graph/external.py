"""External data: tensors that keep their values in files beside the model.

Source: ONNX "External Data"; a location is relative to the folder of the model.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import onnx

from toolchain.errors import ModelError
from toolchain.graph.constants import array_of, dtype_of, is_packed, stored_bytes

# How often tensors may share the same bytes of a file, on average, and how much they may take however often they do.
MAX_SHARING = 16
FREE_BYTES = 2**26


@dataclass(frozen=True)
class SourceFile:
    """A file as it was when it was read.

    Attributes:
        path: of the file, or of a link to it; absolute.
        size: in bytes.
        changed: time of the last change, in nanoseconds.
        inode: the file's number.
    """

    path: Path
    size: int
    changed: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> "SourceFile":
        """Note the present state of a file."""
        status = path.stat()
        return cls(path.absolute(), status.st_size, status.st_mtime_ns, status.st_ino)

    @property
    def is_unchanged(self) -> bool:
        """Whether the file is still there and nobody has written it since."""
        try:
            return SourceFile.of(self.path) == self
        except OSError:
            return False

    def check(self) -> None:
        """Check that the file is what it was.

        Raises:
            ModelError: it is not.
        """
        if not self.is_unchanged:
            raise ModelError(
                f"{self.path} is gone or was written to since the model was loaded", hint="load the model again"
            )


@dataclass(frozen=True)
class Source:
    """What a model was read from, so that it can be written again bit for bit.

    Attributes:
        model: the file, or the bytes that were given.
        data: the external data files by location.
    """

    model: SourceFile | bytes
    data: Mapping[str, SourceFile]


@dataclass(frozen=True)
class Span:
    """Where the values of a tensor lie: ``length`` bytes from ``offset`` of the file at ``location``."""

    location: str
    offset: int
    length: int

    @property
    def end(self) -> int:
        """The offset of what follows."""
        return self.offset + self.length


def is_external(tensor: onnx.TensorProto) -> bool:
    """Return whether a tensor keeps its values in another file."""
    return tensor.data_location == onnx.TensorProto.EXTERNAL


def span_of(tensor: onnx.TensorProto) -> Span:
    """Return where an external tensor lies.

    Raises:
        ValueError: the description is not one.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = str(PurePosixPath(entries["location"]))  # which may be written in several ways
    span = Span(location, int(entries.get("offset", 0)), int(entries.get("length", stored_bytes(tensor))))
    if span.offset < 0 or span.length != stored_bytes(tensor):
        raise ValueError(f"offset {span.offset:,} and length {span.length:,}, {stored_bytes(tensor):,} bytes expected")
    return span


def tensors_of(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of a model: the initializers of the outermost graph first, then all that is nested."""
    yield from proto.graph.initializer
    yield from nested_tensors(proto)


def nested_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of a model that is not a dense initializer of the outermost graph."""
    yield from _sparse_parts(proto.graph.sparse_initializer)
    yield from _in_nodes(proto.graph.node)
    for function in proto.functions:
        yield from _in_nodes(function.node)
        yield from _in_attributes(function.attribute_proto)
    for training in proto.training_info:
        yield from _in_graph(training.initialization)
        yield from _in_graph(training.algorithm)


def _in_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    yield from _sparse_parts(graph.sparse_initializer)
    yield from _in_nodes(graph.node)


def _in_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        yield from _in_attributes(node.attribute)


def _in_attributes(attributes: Iterable[onnx.AttributeProto]) -> Iterator[onnx.TensorProto]:
    for attribute in attributes:
        yield from chain([attribute.t] if attribute.HasField("t") else [], attribute.tensors)
        sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
        yield from _sparse_parts(chain(sparse, attribute.sparse_tensors))
        for graph in chain([attribute.g] if attribute.HasField("g") else [], attribute.graphs):
            yield from _in_graph(graph)


def _sparse_parts(sparse: Iterable[onnx.SparseTensorProto]) -> Iterator[onnx.TensorProto]:
    for item in sparse:
        yield from (item.values, item.indices)


def find_file(tensor: onnx.TensorProto, model: Path) -> Path:
    """Return the file that an external tensor of the model at ``model`` lies in.

    It lies in the model's folder. It may be a link to somewhere else, as download caches make them: it was put there
    by whoever made the folder, not by whoever made the model.

    Raises:
        ModelError: it lies elsewhere, or is not there.
    """
    where = f"{model}: tensor {tensor.name!r}"
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    names = PurePosixPath(location.replace("\\", "/"))
    outside = names.is_absolute() or ".." in names.parts or PureWindowsPath(location).drive or "\0" in location
    file = model.parent / location
    try:
        outside = outside or not file.parent.resolve().is_relative_to(model.parent.resolve())
        missing = not outside and not file.is_file()
    except (OSError, RuntimeError) as error:  # a name that is too long, links that lead in a circle
        raise ModelError(f"{where} points to {location!r}, which cannot be read: {error}") from error
    if outside:
        raise ModelError(f"{where} points outside the model's folder, to {location!r}")
    if missing:
        raise ModelError(
            f"{where} is in the external data file {location!r}, which is missing",
            hint="copy the external data file into the folder of the .onnx file",
        )
    return file


def find_span(tensor: onnx.TensorProto, model: Path) -> tuple[Path, Span]:
    """Return the file that an external tensor of the model at ``model`` lies in, and where in it.

    Raises:
        ModelError: the file lies elsewhere, is not there or too short, or the description is wrong.
    """
    where = f"{model}: tensor {tensor.name!r}"
    file = find_file(tensor, model)
    try:
        span = span_of(tensor)
        size = file.stat().st_size
    except (ValueError, TypeError, KeyError, OverflowError, OSError) as error:
        raise ModelError(f"{where} describes its external data wrongly: {error}") from error
    if span.end > size:
        raise ModelError(
            f"{where} is in the external data file {span.location!r}, which has {size:,} bytes, {span.end:,} expected",
            hint="copy the external data file into the folder of the .onnx file",
        )
    return file, span


def check_sharing(tensors: Sequence[onnx.TensorProto], files: Mapping[str, SourceFile], model: Path) -> None:
    """Check that tensors do not multiply the files that they lie in.

    Tensors that are tied may be the same part of a file, but a few bytes more per tensor must not cost its size again
    and again.

    Raises:
        ModelError: they do.
    """
    wanted, held = sum(map(stored_bytes, tensors)), sum(file.size for file in files.values())
    if wanted > FREE_BYTES + MAX_SHARING * held:
        raise ModelError(
            f"{model}: {len(tensors):,} tensors, the first of them {tensors[0].name!r}, share {held:,} bytes of "
            f"external data so often that they take {wanted:,}, more than {MAX_SHARING} times as many"
        )


def embed(tensor: onnx.TensorProto, file: Path) -> None:
    """Read an external tensor's values into the tensor itself.

    Raises:
        ModelError: the file cannot be read.
    """
    span = span_of(tensor)
    try:
        with file.open("rb") as opened:
            opened.seek(span.offset)
            tensor.raw_data = opened.read(span.length)
    except OSError as error:
        raise ModelError(f"cannot read {file}: {error.strerror}") from error
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]


def map_array(tensor: onnx.TensorProto, file: SourceFile) -> np.ndarray:
    """Return an external tensor's values, read-only, each read from the file when it is used.

    Raises:
        ModelError: the file has changed since the model was loaded.
    """
    if is_packed(tensor):
        return _unpacked(tensor, file)
    file.check()
    return np.memmap(file.path, dtype_of(tensor), "r", span_of(tensor).offset, tuple(tensor.dims))


def read_array(tensor: onnx.TensorProto, file: SourceFile) -> np.ndarray:
    """Return an external tensor's values as an array of its own.

    Raises:
        ModelError: the file has changed since the model was loaded.
    """
    if is_packed(tensor):
        return _unpacked(tensor, file)
    file.check()
    shape = tuple(tensor.dims)
    return np.fromfile(file.path, dtype_of(tensor), int(np.prod(shape)), offset=span_of(tensor).offset).reshape(shape)


def _unpacked(tensor: onnx.TensorProto, file: SourceFile) -> np.ndarray:
    file.check()
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    embed(copy, file.path)
    return array_of(copy)
