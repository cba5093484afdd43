"""Structures of pruned tensors: which zeros go together, to which weights that applies, and how far. Nothing heavy."""

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from toolchain.errors import RecipeError, nearest

if TYPE_CHECKING:
    from toolchain.graph.layout import Layout

Kind = Literal["unstructured", "filter", "column", "block", "n:m", "pattern", "groups", "channel"]

PATTERN_SIZE = 4  # weights that a kernel pattern keeps, of 3 x 3

# Gathered groups below this many inputs or outputs cost more than they save, in accuracy and in time.
NARROWEST = 32
# A group of fewer outputs does not fill the runtime's kernels: of a convolution, and of a matrix.
CONV_OUTPUTS, MATRIX_OUTPUTS = 16, 128
MOST_CONV_GROUPS, MOST_MATRIX_GROUPS = 4, 32
# Channels of a group are kept in multiples of this, for the runtime's blocked kernels. Conv 64x64x3x3 at 8x8, 4 groups,
# against dense (onnxruntime 1.31, AVX-512): 48 channels 1.03x faster, 40 only 0.59x; 16 channels 2.25x, 8 only 2.0x.
CHANNEL_MULTIPLE = 16

# Channels stay in multiples of this by themselves. Four convolutions of 3x3 at 16x16 with 64 channels, against that
# (onnxruntime 1.31, AVX-512): 56 channels 1.00x faster, 48, 44, 40 and 36 1.75x, 33 2.15x, 32 3.6x; of 16 at 32x32,
# 12 channels 0.97x, 8 1.5x. So 16 is what pays, and 8 what lets layers of 16 channels shrink too.
ROUND = 8

_EXAMPLES = ("unstructured", "channel", "filter", "column", "2:4", "block4x1", "pattern", "groups")
_N_OF_M = re.compile(r"([0-9]+):([0-9]+)")
_BLOCK = re.compile(r"block([0-9]+)x([0-9]+)")
_MULTIPLE = re.compile(r"(groups|channel|filter)([0-9]+)")


@dataclass(frozen=True)
class Structure:
    """Which weights of a tensor are pruned together.

    Attributes:
        kind: ``"column"`` is one input at one kernel position over all outputs; ``"block"`` so many outputs times so
            many inputs at one kernel position; ``"n:m"`` keeps N of every M inputs in a row; ``"pattern"`` keeps 4
            positions of a 3x3 kernel, in one of few patterns, or none; ``"groups"`` gives every group of outputs input
            channels of its own; ``"channel"`` is what all layers that share it make of and do with a channel, so that
            shapes shrink; ``"filter"`` is the same, chosen by what makes the channel alone.
        sizes: outputs and inputs of a block; N and M; of groups and channels first what they are kept in multiples of.
    """

    kind: Kind = "unstructured"
    sizes: tuple[int, int] = (1, 1)

    def __str__(self) -> str:
        """Return it as the command line spells it."""
        if self.kind == "block":
            return f"block{self.sizes[0]}x{self.sizes[1]}"
        if self.kind == "groups":
            return "groups" if self.sizes[0] == CHANNEL_MULTIPLE else f"groups{self.sizes[0]}"
        if self.by_channel:
            return self.kind if self.sizes[0] == ROUND else f"{self.kind}{self.sizes[0]}"
        return f"{self.sizes[0]}:{self.sizes[1]}" if self.kind == "n:m" else self.kind

    @property
    def by_channel(self) -> bool:
        """Whether channels leave all layers that share them."""
        return self.kind in ("channel", "filter")

    @property
    def in_multiples(self) -> bool:
        """Whether channels are kept in multiples of the first of ``sizes``."""
        return self.by_channel or self.kind == "groups"


UNSTRUCTURED = Structure()
GROUPS = Structure("groups", (CHANNEL_MULTIPLE, 1))
_PLAIN = {
    "unstructured": UNSTRUCTURED,
    "filter": Structure("filter", (ROUND, 1)),
    "column": Structure("column"),
    "pattern": Structure("pattern"),
    "groups": GROUPS,
    "channel": Structure("channel", (ROUND, 1)),
}


def parse_structure(text: str) -> Structure:
    """Parse a structure as the command line spells it, such as ``"filter"``, ``"2:4"`` or ``"block4x1"``.

    ``"groups8"`` keeps channels in multiples of 8 rather than 16, ``"channel1"`` and ``"filter1"`` any number of them.

    Raises:
        RecipeError: it is none of them, or its numbers make no sense.
    """
    stripped = text.strip().lower()
    if stripped in _PLAIN:
        return _PLAIN[stripped]
    if match := _N_OF_M.fullmatch(stripped):
        kept, of = int(match[1]), int(match[2])
        if not 0 < kept < of:
            raise RecipeError(f"structure: {text!r} must keep fewer than all of {of} weights", hint="write 2:4 or 1:8")
        return Structure("n:m", (kept, of))
    if match := _BLOCK.fullmatch(stripped):
        sizes = int(match[1]), int(match[2])
        if min(sizes) < 1 or sizes == (1, 1):
            raise RecipeError(f"structure: {text!r} is no block of several weights", hint="write block4x1 or block1x16")
        return Structure("block", sizes)
    if match := _MULTIPLE.fullmatch(stripped):
        if int(match[2]) < 1:
            raise RecipeError(f"structure: {text!r} keeps channels in multiples of nothing", hint=f"write {match[1]}8")
        return replace(_PLAIN[match[1]], sizes=(int(match[2]), 1))
    raise RecipeError(
        f"structure: {text!r} is not a known structure; {nearest(text, _EXAMPLES)}",
        hint=f"write one of {', '.join(_EXAMPLES)}",
    )


def round_channels(structure: Structure | None, multiple: int) -> Structure:
    """Return the structure with channels in multiples of ``multiple``.

    Raises:
        RecipeError: it has no channels, or the number makes no sense.
    """
    if structure is None or not structure.in_multiples:
        raise RecipeError(
            f"round says how many channels stay, and {structure or UNSTRUCTURED} keeps none by number",
            hint="add --structure channel, --structure filter or --structure groups",
        )
    if multiple < 1:
        raise RecipeError(f"round: got {multiple}, expected at least 1", hint="write --round 8")
    return replace(structure, sizes=(multiple, 1))


def objection(structure: Structure, layout: "Layout | None") -> str:
    """Return why a weight cannot have the structure; empty when it can."""
    if structure.kind == "unstructured" or structure.by_channel:  # of channels, the whole model decides
        return ""
    if layout is None:
        return "its users read it in different layouts"
    matrices, outputs, inputs, _ = layout.stack
    reason = ""
    if structure.kind == "n:m" and inputs % structure.sizes[1]:
        reason = f"its {inputs} inputs are no multiple of {structure.sizes[1]}"
    elif structure.kind == "pattern" and layout.kernel_shape != (3, 3):
        reason = "it has no 3x3 kernels"
    elif structure.kind == "groups" and matrices > 1:
        reason = "it has groups already" if layout.kernel else f"it is a stack of {matrices} matrices"
    elif structure.kind == "groups" and min(outputs, inputs) < NARROWEST:
        reason = f"fewer than {NARROWEST} inputs or outputs are too few for groups"
    elif structure.kind in ("column", "block"):
        reason = _unit_objection(structure, layout)
    return reason


def _unit_objection(structure: Structure, layout: "Layout") -> str:
    unit = unit_extent(structure, layout)
    if layout.stack == (1, *unit):
        return f"it is a single {structure.kind}"
    return f"a {structure.kind} of it is a single weight" if unit == (1, 1, 1) else ""


def unit_extent(structure: Structure, layout: "Layout") -> tuple[int, int, int]:
    """Return how many outputs, inputs and positions are pruned together, by column, block or whole kernel.

    Raises:
        ValueError: the structure has no units of a size within one tensor.
    """
    _, outputs, inputs, positions = layout.stack
    if structure.kind == "column":
        return outputs, 1, 1
    if structure.kind == "pattern":
        return 1, 1, positions
    if structure.kind != "block":
        raise ValueError(f"{structure} has no units of a size within one tensor")
    return min(structure.sizes[0], outputs), min(structure.sizes[1], inputs), 1


def bounds(structure: Structure, layout: "Layout") -> tuple[int, int]:
    """Return the fewest and the most weights that the structure can keep of a tensor that it applies to."""
    matrices, outputs, inputs, positions = layout.stack
    size = matrices * outputs * inputs * positions
    if structure.kind == "unstructured" or structure.by_channel:
        return 1, size
    if structure.kind == "n:m":
        kept = size // structure.sizes[1] * structure.sizes[0]
        return kept, kept
    if structure.kind == "pattern":
        return PATTERN_SIZE, size // positions * PATTERN_SIZE
    if structure.kind == "groups":
        return outputs * positions * min(structure.sizes[0], inputs), size
    unit = unit_extent(structure, layout)
    return unit[0] * unit[1] * unit[2], size


def group_count(layout: "Layout") -> int:
    """Return into how many groups of equal size the outputs are divided, by the tensor's width."""
    outputs = layout.stack[1]
    least, most = (CONV_OUTPUTS, MOST_CONV_GROUPS) if layout.kernel else (MATRIX_OUTPUTS, MOST_MATRIX_GROUPS)
    wanted = max(1, min(most, outputs // least))
    return next(count for count in range(wanted, 0, -1) if outputs % count == 0)
