"""Packed low-bit codes of every element, for tensors that were quantized and not, or hardly, pruned."""

from onnx import numpy_helper

from toolchain.export.builder import Builder
from toolchain.export.encodings.content import Content
from toolchain.export.encodings.levels import Codes, find_levels


def encode(builder: Builder, content: Content, output: str) -> bool:
    """Store ``ceil(log2(levels that occur))`` bits per element; for int8 and uint8, fewer than 8 bits."""
    if content.array.dtype.itemsize != 1 or not content.array.size:
        return False
    flat = content.array.reshape(-1)
    found = find_levels(flat)
    shape = builder.ints(content.array.shape)
    if found.size == 1:
        builder.node("ConstantOfShape", [shape], {"value": numpy_helper.from_array(found)}, output)
        return True
    codes = Codes.of(flat)
    if codes.width >= 8:
        return False
    value = codes.store(builder)
    if codes.decoded_size != flat.size:
        value = builder.node("Slice", [value, builder.ints([0]), builder.ints([flat.size])])
    builder.node("Reshape", [value, shape], output=output)
    return True
