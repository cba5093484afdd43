"""Says which weights are computed with in other bits than were asked for.

ONNX Runtime multiplies by floats, by 8-bit integers, and in ``MatMulNBits`` by those of 2, 4 or 8 bits. Whatever lies
between is stored in few bits all the same, so that the file and the memory at run time differ.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from toolchain.amounts import QuantSpec
from toolchain.export import StoredTensor, held_bits
from toolchain.module import OnnxModule
from toolchain.planning.plan import Plan
from toolchain.running.run import Compression

_FLOAT_BITS = 32


@dataclass(frozen=True)
class Width:
    """What one quantized tensor takes.

    Attributes:
        grid: what was asked for.
        kernel: that runs it.
        held: bits that a session holds for every weight it multiplies by.
        size: number of weights.
        bytes: of the file.
    """

    grid: QuantSpec
    kernel: str
    held: int
    size: int
    bytes: int


def width_notes(
    plan: Plan, done: Compression, module: OnnxModule, stored: Mapping[str, StoredTensor]
) -> tuple[str, ...]:
    """Return a sentence for every number of bits and kernel that differ.

    Args:
        plan: what was asked for.
        done: with the bits that were found where they were to be.
        module: as it was written.
        stored: how its tensors lie in the file, by name.
    """
    grids = plan.quantize.grids(done.bits) if plan.quantize is not None else {}
    return describe_widths(
        Width(grids[name], item.kernel, held_bits(module, name, item.kernel), module.tensor(name).numel(), item.bytes)
        for name, item in stored.items()
        if name in grids
    )


def describe_widths(widths: Iterable[Width]) -> tuple[str, ...]:
    """Return a sentence for every number of bits and kernel that differ; tensors that have both are counted."""
    groups: dict[tuple[str, str, int], list[Width]] = {}
    for width in widths:
        if width.held != width.grid.bits:
            groups.setdefault((_name(width.grid), width.kernel, width.held), []).append(width)
    return tuple(_sentence(*key, group) for key, group in groups.items())


def _name(grid: QuantSpec) -> str:
    return grid.kind.capitalize() if grid.kind in ("ternary", "binary") else f"{grid.bits}-bit"


def _sentence(name: str, kernel: str, held: int, group: list[Width]) -> str:
    many = f"{len(group)} tensor{'s' if len(group) > 1 else ''}"
    kind = "floats" if held == _FLOAT_BITS else "integers"
    each = 8 * sum(width.bytes for width in group) / sum(width.size for width in group)
    return (
        f"{name} weights of {many} run as {held}-bit {kind}, by the kernel {kernel!r}: each takes {each:.3g} bits of "
        f"the file, with what decodes it, and {held} of memory while a session runs."
    )
