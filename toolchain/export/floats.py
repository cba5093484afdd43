"""The float kernel: a compressed weight is decoded to float32 at load, its nodes stay as they are."""

import numpy as np

from toolchain.export.affine import store_affine
from toolchain.export.builder import Builder
from toolchain.export.draft import Draft, add_scale
from toolchain.export.encodings import Content, encode_smallest
from toolchain.export.weights import weight_array, weight_grid, weight_levels
from toolchain.graph import Node


def lower_float(draft: Draft, node: Node) -> None:
    """Store the compressed constants that a node reads; the node stays as it is."""
    for name in node.inputs:
        if name in draft.graph.initializers and name in draft.module.formats and name not in draft.stored:
            _store_float(draft, name)


def _store_float(draft: Draft, name: str) -> None:
    """Store weight ``name`` by the fewest bytes that decode to its float32 values."""
    grid = weight_grid(draft.module, name)
    on_grid = None
    if grid is not None and isinstance(grid.zero_point, int) and not grid.block_size:
        levels = weight_levels(draft.module, name)
        on_grid = levels, grid.broadcast_scale(levels.shape).detach().cpu().numpy()
    elif grid is not None:
        store_affine(draft, name, grid)
        return
    store_values(draft, name, weight_array(draft.module, name), on_grid, "float")


def store_values(
    draft: Draft, name: str, array: np.ndarray, on_grid: tuple[np.ndarray, np.ndarray] | None, kernel: str
) -> None:
    """Store float32 values under ``name`` by the fewest bytes.

    Args:
        draft: the export.
        name: of the constant that they replace.
        array: the values.
        on_grid: int8 levels and a scale that broadcasts over them, whose product the values are; None for any floats.
        kernel: for the report.
    """
    opset = draft.graph.opset
    best: tuple[Builder, str] | None = None
    if on_grid is not None:
        child = draft.builder.fork()
        encoding = _store_levels(child, *on_grid, name, opset)
        best = child, encoding
    if best is None or best[0].bytes > array.size:  # a byte per value: floats may be as small only for tiny tensors
        child = draft.builder.fork()
        encoding = encode_smallest(child, Content(array), name, opset)
        if best is None or child.bytes < best[0].bytes:
            best = child, encoding
    draft.adopt(name, best[1], kernel, best[0])


def _store_levels(builder: Builder, levels: np.ndarray, scale: np.ndarray, name: str, opset: int) -> str:
    """Add ``levels * scale``. DequantizeLinear would not do: a session that may fuse it does not fold it."""
    value = builder.fresh()
    encoding = encode_smallest(builder, Content(levels, floats=True), value, opset)
    builder.node("Mul", [value, add_scale(builder, scale)], output=name)
    return encoding
