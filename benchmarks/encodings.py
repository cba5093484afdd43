"""Real bytes of the encodings against the entropy bound, and against what else could be stored.

    python benchmarks/encodings.py        # a minute or two; writes results/encodings.json and .md

Random tensors: the kept positions independent, the levels equally likely, so that the bound is what their entropy says:
``N H(d)`` bits for the positions and ``log2(levels)`` bits for each kept weight. Real networks are less random. Every
tensor is decoded by an ONNX Runtime session and compared bit for bit; load time is that session's.

Structured ones are random weights as the set of ``--structure`` prunes them. Their bound is the entropy of the support
within that structure, one bit of less or more for each unit, and not for each weight; beside it stands what the same
tensor takes when every kept weight has a position of its own.
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
import torch
from common import RESULTS, machine, save, table, take_no_arguments
from onnx import helper

from passes.constraints import Budget, TopK
from toolchain.export.builder import Builder
from toolchain.export.encodings import Content, encode_pending, encode_smallest, positions
from toolchain.export.encodings.cuts import entropy
from toolchain.export.folding import check_folded
from toolchain.export.sessions import open_session
from toolchain.graph.layout import Layout
from toolchain.structures import parse_structure, unit_extent

OPSET = 17
SHAPES = ((500, 800), (512, 512, 3, 3))
DENSITIES = (1.0, 1 / 4, 1 / 12, 1 / 36, 1 / 61, 1 / 246)
BITS = (1, 2, 3, 4, 5, 6, 8)
STRUCTURES = (
    *(("2:4", 1 / 2), ("1:4", 1 / 4), ("4:8", 1 / 2), ("pattern", 2 / 9), ("groups", 1 / 4), ("column", 1 / 4)),
    *(("filter", 1 / 4), ("block4x1", 1 / 8), ("block1x4", 1 / 8), ("block4x4", 1 / 8)),
)
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
    structure: str = "unstructured"

    @property
    def layout(self) -> Layout:
        """Outputs first, then inputs."""
        return Layout(self.shape, 0, 1, tuple(range(2, len(self.shape))))

    def _mask(self, rng: np.random.Generator) -> np.ndarray:
        if self.structure == "unstructured":
            return rng.random(self.shape) < self.density
        weight = torch.from_numpy(rng.standard_normal(self.shape, np.float32))
        if self.structure == "filter":
            largest = weight.flatten(1).square().sum(1).argsort(descending=True)
            outputs = np.isin(np.arange(len(weight)), largest[: round(self.density * len(weight))].numpy())
            return np.broadcast_to(outputs.reshape(-1, *[1] * (weight.ndim - 1)), self.shape)
        budget = Budget(("w",), round(self.density * weight.numel()), parse_structure(self.structure))
        mask = TopK((budget,), layouts={"w": self.layout}).fit({"w": weight}, {}, {})["w"].mask
        assert mask is not None
        found: np.ndarray = mask.numpy()
        return found

    def tensors(self) -> list[np.ndarray]:
        """Return int8 levels, without 0 where pruned."""
        rng = np.random.default_rng(0)
        half = 2 ** (self.bits - 1)
        levels = np.array([level for level in range(-half, half + 1) if level][-(2**self.bits) :])
        levels = levels[np.abs(levels) <= 127].astype(np.int8)  # 254 of 8 bits
        return [np.where(self._mask(rng), rng.choice(levels, self.shape), np.int8(0)) for _ in range(self.count)]


CASES = [
    *(Case("one tensor", shape, density, bits) for shape in SHAPES for density in DENSITIES for bits in BITS),
    *(Case("20 tensors", (16, 16, 3, 3), density, 2, 20) for density in (1 / 4, 1 / 12, 1 / 36)),
    *(Case("one tensor", shape, density, 2, 1, structure)
      for shape in ((1024, 1024), (512, 512, 3, 3)) for structure, density in STRUCTURES
      if structure != "pattern" or len(shape) == 4),
]  # fmt: skip


def bound(case: Case, arrays: Sequence[np.ndarray]) -> float:
    """Return the entropy of positions and values in bytes."""
    total = 0.0
    for array in arrays:
        total += support_bits(case, array != 0)
        total += np.count_nonzero(array) * math.log2(len(np.unique(array[array != 0])))
    return total / 8


def support_bits(case: Case, mask: np.ndarray) -> float:
    """Return the entropy of what is kept, given the structure, in bits."""
    structure = parse_structure(case.structure)
    stack: np.ndarray = mask.reshape(*mask.shape[:2], -1)
    outputs, inputs, places = stack.shape
    if structure.kind == "n:m":
        kept, of = structure.sizes
        return mask.size / of * math.log2(math.comb(of, kept))
    if structure.kind == "groups":  # of equally many outputs each, which read equally many inputs
        rows, sizes = np.unique(stack.any(2), axis=0, return_counts=True)
        shares = sizes / outputs
        sorting = -outputs * float(shares @ np.log2(shares))
        return float(sorting + sum(inputs * entropy(float(row.mean())) for row in rows))
    whole = {"unstructured": (1, 1, 1), "filter": (1, inputs, places)}
    extent = whole.get(structure.kind) or unit_extent(structure, case.layout)
    blocks = stack.reshape(outputs // extent[0], extent[0], inputs // extent[1], extent[1], places // extent[2], -1)
    units = blocks.any((1, 3, 5))
    bits = units.size * entropy(float(units.mean()))
    return bits + 3 * int(units.sum()) if structure.kind == "pattern" else bits  # one of 8 patterns


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
    single = Builder("_")
    for name, array in arrays.items():
        positions.encode(single, Content(array), name)
    joined = np.concatenate([array.reshape(-1) for array in arrays.values()])
    kept = int(np.count_nonzero(joined))
    return {
        "case": case.name,
        "structure": case.structure,
        "shape": case.shape,
        "count": case.count,
        "density": kept / joined.size,
        "bits": case.bits,
        "bytes": builder.bytes,
        "entropy_bytes": bound(case, list(arrays.values())),
        "single_positions_bytes": single.bytes,
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
    take_no_arguments(__doc__)
    results = [measure(case) for case in CASES]
    save("encodings", {**machine(), "results": results})
    rows = [
        [
            f"{item['count']} x {'x'.join(map(str, item['shape']))}",
            f"1/{1 / item['density']:.0f}",
            item["structure"],
            str(item["bits"]),
            f"{item['bytes']:,}",
            f"{item['bytes'] / item['entropy_bytes'] - 1:+.1%}",
            f"{item['single_positions_bytes']:,}",
            f"{item['dense_float_bytes'] / item['bytes']:.1f}x",
            f"{item['gzip_float_bytes'] / item['bytes']:.2f}x",
            f"{item['gzip_int8_bytes'] / item['bytes']:.2f}x",
            f"{item['sparse_initializer_bytes'] / item['bytes']:.1f}x",
            f"{item['load_ms']:.1f}",
        ]
        for item in results
    ]
    text = table(
        ["tensors", "kept", "structure", "bits", "bytes", "above the entropy", "bytes with a position per weight",
         "dense float32 takes", "gzip of it",
         "gzip of int8", "sparse_initializer", "load ms"],
        rows,
    )  # fmt: skip
    (RESULTS / "encodings.md").write_text(text)
    print(text)
    beyond = [
        row[:6]
        for row, item in zip(rows, results, strict=True)
        if item["count"] == 1
        and item["bytes"] > max(ALLOWED * item["entropy_bytes"], RICE * item["entropy_bytes"] + DECODER)
    ]
    if beyond:
        sys.exit(f"more than {ALLOWED - 1:.0%} and more than {DECODER} bytes above the entropy: {beyond}")


if __name__ == "__main__":
    main()
