"""ONNX's own coordinate format: one int64 index and one value per kept position."""

import numpy as np
import onnx
from onnx import numpy_helper

from toolchain.export.builder import Builder
from toolchain.export.encodings.content import Content


def encode(builder: Builder, content: Content, output: str) -> bool:
    """Add a ``sparse_initializer``, which the runtime makes dense at load; for float32 only, as the runtime is."""
    flat = content.array.reshape(-1)
    index = np.flatnonzero(content.kept(flat))
    if content.background or content.array.dtype != np.float32 or 3 * index.size >= flat.size:
        return False
    builder.sparse.append(
        onnx.SparseTensorProto(
            values=numpy_helper.from_array(flat[index], output),
            indices=numpy_helper.from_array(index.astype(np.int64), ""),
            dims=content.array.shape,
        )
    )
    return True
