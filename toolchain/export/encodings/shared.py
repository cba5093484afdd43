"""Packed positions and low-bit values whose decoder is written once, as a model-local function, for all tensors.

The same code as ``positions``, in one bit vector per tensor: the stream of steps, the low bits of the gaps, the codes
of the kept values. ONNX Runtime inlines functions before it folds constants. A call is some 500 bytes smaller than the
nodes themselves, which is what a small network needs.
"""

import numpy as np
from onnx import FunctionProto, TensorProto, helper, numpy_helper

from toolchain.export.builder import Builder
from toolchain.export.encodings import levels, positions
from toolchain.export.encodings.content import Content

DOMAIN = "_"
NAME = "d"

# Above it the few hundred bytes are not worth a second try.
LARGEST = 1 << 20


def encode(builder: Builder, content: Content, output: str) -> bool:
    """Store a pruned int8 or uint8 tensor of fewer than 8 bits by one call of the shared decoder."""
    flat = content.array.reshape(-1)
    if not builder.function_opset or flat.itemsize != 1 or flat.size > LARGEST:
        return False
    index = np.flatnonzero(flat != content.background)
    if not index.size:
        return False
    parameter, _ = positions.best_parameter(index, flat.size)
    found = levels.find_levels(flat[index])
    if not 1 <= parameter <= 8 or found.size > 128:
        return False
    width = max(1, (found.size - 1).bit_length())
    stream, low = positions.split_gaps(index, parameter)
    fields = [stream, _bits(low, parameter), _bits(levels.find_codes(flat[index], found), width)]
    bits = np.concatenate(fields)
    packed = np.packbits(bits, bitorder="little").reshape(-1, 1)
    sizes = [field.size for field in fields]
    builder.functions.setdefault(NAME, _decoder(builder.function_opset))
    inputs = [
        builder.tensor(packed),
        builder.ints([*sizes, packed.size * 8 - bits.size]),
        builder.constant(_weights(parameter)),
        builder.constant(_weights(width)),
        builder.constant(found),
        builder.constant(content.fill),
        builder.ints(content.array.shape),
    ]
    builder.node(NAME, inputs, output=output, domain=DOMAIN)
    return True


def _bits(values: np.ndarray, width: int) -> np.ndarray:
    """Return ``width`` bits per value, lowest first: uint8 0 or 1."""
    return np.unpackbits(values.astype(np.uint8).reshape(-1, 1), axis=1, count=width, bitorder="little").reshape(-1)


def _weights(width: int) -> np.ndarray:
    """Return the powers of two that a field's bits stand for."""
    weights: np.ndarray = 2 ** np.arange(width, dtype=np.uint8)
    return weights


def _decoder(opset: int) -> FunctionProto:
    """Return the function: bytes, field sizes, weights of low and code bits, levels, background, shape -> tensor."""
    inner = Builder("")
    formal = ["B", "S", "P", "Q", "T", "G", "H"]  # capitals, which fresh names are not
    packed, sizes, low_weights, code_weights, table, background, shape = formal
    one = _constant(inner, np.array(1, np.int32))
    first = _constant(inner, np.array(0, np.int64))
    rest = _constant(inner, np.array([-1], np.int64))
    shifts = _constant(inner, np.arange(8, dtype=np.uint8).reshape(1, -1))
    bits = inner.node("BitShift", [packed, shifts], {"direction": "RIGHT"})
    bits = inner.node("Mod", [bits, _constant(inner, np.array(2, np.uint8))])
    bits = inner.node("Reshape", [bits, rest])
    stream, low, codes, unused = (inner.fresh() for _ in range(4))
    inner.nodes.append(helper.make_node("Split", [bits, sizes], [stream, low, codes, unused]))
    step = inner.cast(stream, TensorProto.INT32)
    number = inner.node("Mul", [inner.node("CumSum", [step, first]), step])
    values = inner.node("Gather", [table, _weighed(inner, codes, code_weights, rest)])
    values = inner.node("Concat", [background, values], {"axis": 0})
    values = inner.node("Gather", [values, number])
    forward = inner.node("Add", [_weighed(inner, low, low_weights, rest), one])
    forward = inner.node("Gather", [forward, number])
    position = inner.node("Sub", [inner.node("CumSum", [forward, first]), one])
    empty = inner.node("Reshape", [inner.node("Expand", [background, shape]), rest])
    full = inner.node("ScatterElements", [empty, position, values])
    inner.node("Reshape", [full, shape], output="Y")
    imports = [helper.make_opsetid("", opset)]
    return helper.make_function(DOMAIN, NAME, formal, ["Y"], inner.nodes, imports)


def _constant(inner: Builder, value: np.ndarray) -> str:
    return inner.node("Constant", [], {"value": numpy_helper.from_array(value)})


def _weighed(inner: Builder, bits: str, weights: str, rest: str) -> str:
    """Add nodes that weigh every field of ``len(weights)`` bits: int32, one per field."""
    shape = inner.node("Concat", [rest, inner.node("Shape", [weights])], {"axis": 0})
    return inner.node("MatMulInteger", [inner.node("Reshape", [bits, shape]), weights])
