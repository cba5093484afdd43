"""The float kernel: a compressed weight is decoded to float32 at load, its nodes stay as they are."""

import numpy as np
from onnx import TensorProto

from toolchain.export.builder import Builder
from toolchain.export.draft import Draft, add_scale
from toolchain.export.encodings import Content, encode_smallest
from toolchain.export.weights import weight_array, weight_grid, weight_levels
from toolchain.formats import Grid
from toolchain.graph import Node


def lower_float(draft: Draft, node: Node) -> None:
    """Store the compressed constants that a node reads; the node stays as it is."""
    for name in node.inputs:
        if name in draft.graph.initializers and name in draft.module.formats and name not in draft.stored:
            _store_float(draft, name)


def _store_float(draft: Draft, name: str) -> None:
    """Store weight ``name`` by the fewest bytes that decode to its float32 values."""
    opset = draft.graph.opset
    grid = weight_grid(draft.module, name)
    best: tuple[Builder, str] | None = None
    if grid is not None:
        child = draft.builder.fork()
        encoding = _store_levels(child, weight_levels(draft.module, name), grid, name, opset)
        best = child, encoding
    array = weight_array(draft.module, name)
    if best is None or best[0].bytes > array.size:  # a byte per value: floats may be as small only for tiny tensors
        child = draft.builder.fork()
        encoding = encode_smallest(child, Content(array), name, opset)
        if best is None or child.bytes < best[0].bytes:
            best = child, encoding
    draft.adopt(name, best[1], "float", best[0])


def _store_levels(builder: Builder, levels: np.ndarray, grid: Grid, name: str, opset: int) -> str:
    """Add ``levels * scale``. DequantizeLinear would not do: a session that may fuse it does not fold it."""
    value = builder.fresh()
    encoding = encode_smallest(builder, Content(levels), value, opset)
    value = builder.cast(value, TensorProto.FLOAT)
    scale = grid.broadcast_scale(levels.ndim).detach().cpu().numpy()
    builder.node("Mul", [value, add_scale(builder, scale)], output=name)
    return encoding
