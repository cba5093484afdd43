"""Real bytes of the encodings against the entropy bound, and against what else could be stored.

    python benchmarks/encodings.py        # about two minutes; writes results/encodings.json and .md

Random tensors: the kept positions independent, the levels equally likely, so that the bound is what their entropy says:
``N H(d)`` bits for the positions and ``log2(levels)`` bits for each kept weight. Real networks are less random. Every
tensor is decoded by an ONNX Runtime session and compared bit for bit; load time is that session's.
"""

import gzip
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from common import RESULTS, machine, save, table
from onnx import helper

from toolchain.export.builder import Builder
from toolchain.export.encodings import Content, encode_pending, encode_smallest
from toolchain.export.folding import check_folded
from toolchain.export.sessions import open_session

OPSET = 17
SHAPES = ((500, 800), (512, 512, 3, 3))
DENSITIES = (1.0, 1 / 4, 1 / 12, 1 / 36, 1 / 61, 1 / 246)
BITS = (1, 2, 3, 8)
# What a tensor of more than 100,000 weights may take, as a part of the bound; and where that is not 800 bytes more than
# what a Rice code takes, which the decode nodes are.
ALLOWED = 1.08
RICE = 1.04
DECODER = 800


@dataclass(frozen=True)
class Case:
    """Some tensors of equal shape, density and width."""

    name: str
    shape: tuple[int, ...]
    density: float
    bits: int
    count: int = 1

    def tensors(self) -> list[np.ndarray]:
        """Return int8 levels, without 0 where pruned."""
        rng = np.random.default_rng(0)
        half = 2 ** (self.bits - 1)
        levels = np.array([level for level in range(-half, half + 1) if level][-(2**self.bits) :])
        levels = levels[np.abs(levels) <= 127].astype(np.int8)  # 254 of 8 bits
        return [
            np.where(rng.random(self.shape) < self.density, rng.choice(levels, self.shape), np.int8(0))
            for _ in range(self.count)
        ]


CASES = [
    *(Case("one tensor", shape, density, bits) for shape in SHAPES for density in DENSITIES for bits in BITS),
    *(Case("20 tensors", (16, 16, 3, 3), density, 2, 20) for density in (1 / 4, 1 / 12, 1 / 36)),
]


def bound(arrays: Sequence[np.ndarray]) -> float:
    """Return the entropy of positions and values in bytes."""
    total = 0.0
    for array in arrays:
        kept = np.count_nonzero(array)
        share = kept / array.size
        if 0 < share < 1:
            total -= array.size * (share * math.log2(share) + (1 - share) * math.log2(1 - share))
        total += kept * math.log2(len(np.unique(array[array != 0])))
    return total / 8


def measure(case: Case) -> dict[str, Any]:
    """Encode, decode in a session, compare, and count."""
    arrays = {f"w{number}": array for number, array in enumerate(case.tensors())}
    builder = Builder("_", pools=True)
    for name, array in arrays.items():
        encode_smallest(builder, Content(array), name, OPSET)
    encode_pending(builder, OPSET)
    model = as_model(builder, list(arrays))
    check_folded(model)
    started = time.perf_counter()
    session = open_session(model, threads=1)
    load = time.perf_counter() - started
    for array, decoded in zip(arrays.values(), session.run(None, {}), strict=True):
        if decoded.dtype != array.dtype or not np.array_equal(decoded, array):
            sys.exit(f"{case} is not decoded bit for bit")
    joined = np.concatenate([array.reshape(-1) for array in arrays.values()])
    kept = int(np.count_nonzero(joined))
    return {
        "case": case.name,
        "shape": case.shape,
        "count": case.count,
        "density": kept / joined.size,
        "bits": case.bits,
        "bytes": builder.bytes,
        "entropy_bytes": bound(list(arrays.values())),
        "dense_float_bytes": 4 * joined.size,
        "gzip_float_bytes": len(gzip.compress(joined.astype(np.float32).tobytes(), 6)),
        "gzip_int8_bytes": len(gzip.compress(joined.tobytes(), 6)),
        "sparse_initializer_bytes": 12 * kept,  # float32 values and int64 positions
        "load_ms": 1000 * load,
    }


def as_model(builder: Builder, names: Sequence[str]) -> bytes:
    """Return a model whose outputs are the decoded tensors."""
    nodes = [*builder.nodes, *(helper.make_node("Identity", [name], [f"y{name}"]) for name in names)]
    outputs = [onnx.ValueInfoProto(name=f"y{name}") for name in names]
    graph = helper.make_graph(nodes, "g", [], outputs, builder.initializers, sparse_initializer=builder.sparse)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8).SerializeToString()


def main() -> None:
    """Measure every case, save, print."""
    results = [measure(case) for case in CASES]
    save("encodings", {**machine(), "results": results})
    rows = [
        [
            f"{item['count']} x {'x'.join(map(str, item['shape']))}",
            f"1/{1 / item['density']:.0f}",
            str(item["bits"]),
            f"{item['bytes']:,}",
            f"{item['bytes'] / item['entropy_bytes'] - 1:+.1%}",
            f"{item['dense_float_bytes'] / item['bytes']:.1f}x",
            f"{item['gzip_float_bytes'] / item['bytes']:.2f}x",
            f"{item['gzip_int8_bytes'] / item['bytes']:.2f}x",
            f"{item['sparse_initializer_bytes'] / item['bytes']:.1f}x",
            f"{item['load_ms']:.1f}",
        ]
        for item in results
    ]
    text = table(
        ["tensors", "kept", "bits", "bytes", "above the entropy", "dense float32 takes", "gzip of it",
         "gzip of int8", "sparse_initializer", "load ms"],
        rows,
    )  # fmt: skip
    (RESULTS / "encodings.md").write_text(text)
    print(text)
    beyond = [
        row[:5]
        for row, item in zip(rows, results, strict=True)
        if item["count"] == 1
        and item["bytes"] > max(ALLOWED * item["entropy_bytes"], RICE * item["entropy_bytes"] + DECODER)
    ]
    if beyond:
        sys.exit(f"more than {ALLOWED - 1:.0%} and more than {DECODER} bytes above the entropy: {beyond}")


if __name__ == "__main__":
    main()
