"""Several codes to a byte, most of them the same: the bytes are rebuilt without the codes ever lying one by one.

Of 37 million 2-bit weights the codes alone take 37 MB when each has a byte, the products that pack them as much again,
and a session keeps every value that it folds until all are folded. So what is kept is added where it belongs in bytes
that hold the background: a code ``c`` in lane ``i`` of ``b`` bits adds ``(c - background) * 2**(b i)``, modulo 256.
Codes lie lane by lane, the first of every byte before all second ones.
"""

import numpy as np
from onnx import numpy_helper

from toolchain.export.builder import Builder, make_node
from toolchain.export.encodings import bits, levels, positions

OPSET = 16  # the first whose ScatterElements adds


def encode(builder: Builder, codes: np.ndarray, background: int, shape: tuple[int, ...], output: str) -> bool:
    """Store codes by the positions of those that are not the background; False where a bitmask would be smaller.

    Args:
        builder: takes the nodes.
        codes: uint8 ``[lanes, bytes]``, each below ``2**(8 / lanes)``.
        background: the code of most.
        shape: of the result, uint8.
        output: its name.
    """
    lanes, size = codes.shape
    # Sums of steps give positions from 1 on; their remainders by ``size`` are bytes, if all lie one byte before.
    codes = np.roll(codes, -1, axis=1)
    flat = codes.reshape(-1)
    index = np.flatnonzero(flat != background)
    if not index.size:
        return False
    parameter, _ = positions.best_parameter(index, flat.size)
    if parameter == 0:
        return False
    stream, low = positions.split_gaps(index, parameter)
    step = bits.decode(builder, bits.encode(stream, 1), 1)
    number = positions.number_kept(builder, step)
    low_parts = bits.decode(builder, bits.encode(low, parameter), parameter)
    places = positions.sum_steps(builder, number, low_parts)  # with some behind the last, which add 0 somewhere
    places = builder.node("Mod", [places, builder.constant(np.array(size, np.int32))])
    counts = np.count_nonzero(codes != background, axis=1)
    kept = _added(builder, flat[index], background, counts)
    added = builder.node("Gather", [kept, number])
    fill = np.array([sum(background << 8 // lanes * lane for lane in range(lanes))], np.uint8)
    whole = builder.node("ConstantOfShape", [builder.ints([size])], {"value": numpy_helper.from_array(fill)})
    whole = builder.node("ScatterElements", [whole, places, added], {"reduction": "add"})
    builder.node("Reshape", [whole, builder.ints(shape)], output=output)
    return True


def _added(builder: Builder, kept: np.ndarray, background: int, counts: np.ndarray) -> str:
    """Add nodes that make what every kept code adds, behind a 0: uint8, ``counts`` of them in each lane."""
    found = levels.find_levels(kept)
    width = max(1, levels.code_width(found.size))
    codes = bits.decode(builder, bits.encode(levels.find_codes(kept, found), width), width)
    padding = levels.decoded_size(kept.size, width) - kept.size
    sizes = [*counts.tolist(), *([padding] if padding else [])]
    parts = [builder.fresh() for _ in sizes]
    builder.nodes.append(make_node("Split", [codes, builder.ints(sizes)], parts))
    step = 8 // len(counts)
    distance = found.astype(np.int64) - background
    tables = [builder.constant((distance * 2 ** (step * lane) % 256).astype(np.uint8)) for lane in range(len(counts))]
    values = [builder.node("Gather", [table, part]) for table, part in zip(tables, parts, strict=False)]
    return builder.node("Concat", [builder.constant(np.zeros(1, np.uint8)), *values], {"axis": 0})
