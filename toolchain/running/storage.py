"""How tensors are stored in the file, where the user has a wish: ``--encoding``."""

from collections.abc import Mapping
from dataclasses import replace

import onnx

from toolchain.export import StoredTensor, WrittenModel, write_model
from toolchain.export.builder import Builder
from toolchain.export.encodings import Content, sparse
from toolchain.export.writer import IR_SPARSE
from toolchain.graph import load_graph
from toolchain.module import OnnxModule
from toolchain.planning.plan import EncodingName
from toolchain.unpacking import unpacked


def write_encoded(module: OnnxModule, kernels: Mapping[str, str], encoding: EncodingName) -> WrittenModel:
    """Write a module as ``write_model`` does, its tensors stored as ``encoding`` says.

    Args:
        module: its weights and formats.
        kernels: by node name.
        encoding: ``"auto"`` stores each by the fewest bytes; ``"packed"`` does so without sparse initializers, which
            tools drop; ``"dense"`` as ordinary initializers, so that nothing is decoded; ``"sparse"`` likewise, but for
            float32 tensors that are smaller as ``sparse_initializer``, for which ONNX Runtime has no other types.

    Raises:
        ExportError: as of ``write_model``.
    """
    if encoding == "auto":
        return write_model(module, kernels)
    if encoding == "packed":
        return write_model(module, kernels, without=frozenset({"sparse_initializer"}))
    written = write_model(module, kernels, packs=False)
    plain, _ = unpacked(load_graph(written.proto))
    if encoding == "sparse":
        _make_sparse(plain, written.tensors)
    sizes = {item.name: ("dense", item.ByteSize()) for item in plain.graph.initializer}
    sizes |= {item.values.name: ("sparse_initializer", item.ByteSize()) for item in plain.graph.sparse_initializer}
    tensors = {
        name: replace(entry, encoding=sizes[name][0], bytes=sizes[name][1]) if name in sizes else entry
        for name, entry in written.tensors.items()
    }
    return WrittenModel(plain, tensors)


def _make_sparse(proto: onnx.ModelProto, tensors: Mapping[str, StoredTensor]) -> None:
    """Store those of ``tensors`` that it makes smaller in ONNX's coordinate format."""
    builder, kept = Builder("_"), []
    for item in proto.graph.initializer:
        child = builder.fork()
        array = onnx.numpy_helper.to_array(item)
        if item.name in tensors and sparse.encode(child, Content(array), item.name) and child.bytes < item.ByteSize():
            builder.absorb(child)
        else:
            kept.append(item)
    if builder.sparse:
        proto.graph.ClearField("initializer")
        proto.graph.initializer.extend(kept)
        proto.graph.sparse_initializer.extend(builder.sparse)
        proto.ir_version = max(proto.ir_version, IR_SPARSE)
