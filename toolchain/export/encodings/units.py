"""Pruned tensors whose zeros go by units: cut in the way that takes the fewest bits, and stored by what units are."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from toolchain.export.builder import Builder
from toolchain.export.encodings import blocks, patterns
from toolchain.export.encodings.content import Content, Inner
from toolchain.export.encodings.cuts import Cut, find_cut


class _Kind(NamedTuple):
    """What units have in common, how many bits they take so, and how they are stored."""

    cost: Callable[[np.ndarray, int], float]
    encode: Callable[[Builder, Content, str, Cut, np.ndarray, Inner], None]


_KINDS = (_Kind(blocks.cost, blocks.encode), _Kind(patterns.cost, patterns.encode))


def encode(builder: Builder, content: Content, output: str, inner: Inner) -> bool:
    """Store units, and what tells of each, by ``inner``; False where single positions take no more bits."""
    found = find_cut(content.kept(content.array), [kind.cost for kind in _KINDS])
    if found is None:
        return False
    kind, cut, units = found
    _KINDS[kind].encode(builder, content, output, cut, units, inner)
    return True


def is_cheaper(content: Content) -> bool:
    """Return whether the zeros of a tensor go by units, so that these take fewer bits than single positions."""
    return find_cut(content.kept(content.array), [kind.cost for kind in _KINDS]) is not None
