"""Tensors to encode, and what ONNX Runtime decodes."""

from collections.abc import Sequence

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import helper

from toolchain.export.builder import Builder
from toolchain.export.encodings import Content
from toolchain.export.folding import check_folded
from toolchain.export.sessions import open_session

LEVELS = [(-1, 1), (-2, -1, 1, 2), (5,), (-4, -3, -2, -1, 1, 2, 3, 4), tuple(range(-60, 0)), tuple(range(-127, 128))]


def decoded(builder: Builder, names: Sequence[str], opset: int) -> list[np.ndarray]:
    """Return what a session makes of what the builder holds, once it has shown that all of it folds."""
    nodes = [*builder.nodes, *(helper.make_node("Identity", [name], [f"y{name}"]) for name in names)]
    outputs = [onnx.ValueInfoProto(name=f"y{name}") for name in names]
    graph = helper.make_graph(nodes, "g", [], outputs, builder.initializers, sparse_initializer=builder.sparse)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=6).SerializeToString()
    check_folded(model)
    found: list[np.ndarray] = open_session(model, threads=1).run(None, {})
    return found


def same(left: np.ndarray, right: np.ndarray) -> bool:
    return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()


@st.composite
def contents(draw) -> Content:
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=4)))
    levels = draw(st.sampled_from([*LEVELS, None]))
    background = draw(st.sampled_from([0, 8])) if levels and max(levels) < 100 and min(levels) > -9 else 0
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = rng.standard_normal(shape).astype(np.float32) if levels is None else rng.choice(levels, shape)
    if levels is None:
        values[rng.random(shape) < 0.1] = -0.0  # which is not 0.0
        values = values.astype(draw(st.sampled_from([np.float16, np.float32]))).astype(np.float32)
    else:
        values = (values + background).astype(np.uint8 if background else np.int8)
    kept = rng.random(shape) < draw(st.sampled_from([0.0, 0.02, 0.2, 0.8, 1.0]))
    for axis in range(len(shape)):
        along = np.expand_dims(rng.random(shape[axis]) < draw(st.sampled_from([0.5, 1.0])), list(range(1, len(shape))))
        kept = kept & np.moveaxis(along, 0, axis)  # some rows and columns are empty
    return Content(np.where(kept, values, np.array(background, values.dtype)), background)
