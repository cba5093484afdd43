"""Which node of the compressed model does what which node of the original did, as the runtime executes them."""

import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

# How the runtime's optimizer names what it makes of a node: after the node, or after the value that it computed.
_DECORATION = re.compile(r"^fused |_nchwc$|_output_\d+(?=_nchwc$|$)|_token_\d+$|_quant$|/quantized$")

# What stands for an operator in other data types, layouts and fusions.
_FAMILIES = ("ConvTranspose", "Conv", "MatMul", "Gemm", "AveragePool", "MaxPool", "LSTM", "GRU", "RNN", "Attention")
_SAME = {"Gemm": "MatMul"}  # a fully connected layer is written as either


def match_layers(
    original: Sequence[Mapping[str, Any]], compressed: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return ``{name, op, original_ms, compressed_ms}`` of every executed node; what one side lacks is None there.

    Nodes are matched by name, without what the runtime's optimizer adds to it. Those left over, as where the compressed
    file has shorter names, are matched by kind of operator in the order of execution, between those already matched.

    Args:
        original: ``{name, op, provider, ms}`` of the first model in the order of execution.
        compressed: as well, of the other.
    """
    pairs = _by_name(original, compressed)
    rows: list[dict[str, Any]] = []
    last = (0, 0)
    for before, after in [*pairs, (len(original), len(compressed))]:
        rows += _between(original[last[0] : before], compressed[last[1] : after])
        if before < len(original):
            rows.append(_row(original[before], compressed[after]))
        last = (before + 1, after + 1)
    return rows


def _by_name(original: Sequence[Mapping[str, Any]], compressed: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """Return positions of nodes of one name and kind, rising on both sides."""
    keys = [[(plain_name(node["name"]), family(node["op"])) for node in nodes] for nodes in (original, compressed)]
    blocks = SequenceMatcher(a=keys[0], b=keys[1], autojunk=False).get_matching_blocks()
    return [(block.a + step, block.b + step) for block in blocks for step in range(block.size)]


def _between(original: Sequence[Mapping[str, Any]], compressed: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    kinds = [[family(node["op"]) for node in nodes] for nodes in (original, compressed)]
    rows: list[dict[str, Any]] = []
    for tag, start, end, first, last in SequenceMatcher(a=kinds[0], b=kinds[1], autojunk=False).get_opcodes():
        if tag == "equal":
            rows += [_row(*pair) for pair in zip(original[start:end], compressed[first:last], strict=True)]
        else:
            rows += [_row(node, None) for node in original[start:end]]
            rows += [_row(None, node) for node in compressed[first:last]]
    return rows


def _row(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> dict[str, Any]:
    named = before or after or {}
    ops = dict.fromkeys(node["op"] for node in (before, after) if node is not None)
    return {
        "name": plain_name(named["name"]),
        "op": " -> ".join(ops),
        "original_ms": None if before is None else before["ms"],
        "compressed_ms": None if after is None else after["ms"],
    }


def plain_name(name: str) -> str:
    """Return what a node was called before the runtime's optimizer replaced it: ``/conv1/Conv``."""
    previous = ""
    while name != previous:
        previous, name = name, _DECORATION.sub("", name)
    return name


def family(op: str) -> str:
    """Return the kind of an operator: ``"Conv"`` of ``"QLinearConv"`` and ``"FusedConv"``."""
    found = next((known for known in _FAMILIES if known in op), op)
    return _SAME.get(found, found)


def busiest(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows with the most time on either side first."""
    return sorted(rows, key=lambda row: -max(row["original_ms"] or 0.0, row["compressed_ms"] or 0.0))
