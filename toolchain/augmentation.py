"""Parses how training images are varied: ``shift``, ``shift4``, ``flip``, ``shift4,flip``. Imports nothing heavy."""

import re
from dataclasses import dataclass

from toolchain.errors import RecipeError, nearest

AUGMENT_HINT = "write shift (by one pixel), shift4 (by up to four), flip, such as shift4,flip; or none, or auto"
LARGEST_SHIFT = 64  # pixels; images of any size that training sees are cropped by less

_NAMES = ("auto", "none", "shift", "flip")
_SHIFT = re.compile(r"shift([0-9]{0,4})")


@dataclass(frozen=True)
class Augmentation:
    """How every training image is varied, by itself and anew each time that it is seen.

    Attributes:
        shift: pixels that it moves at most, up or down and left or right; the border is repeated.
        flip: whether half of the images are mirrored, left to right.
    """

    shift: int = 0
    flip: bool = False

    @property
    def variants(self) -> int:
        """How many versions of an image there are."""
        return (2 * self.shift + 1) ** 2 * (1 + self.flip)

    @property
    def says(self) -> str:
        """A sentence for the report; empty where images stay as they are."""
        pixels = f"shifted at random by up to {self.shift} pixel{'s' * (self.shift != 1)} each way"
        ways = [pixels] * bool(self.shift) + ["mirrored, half of them"] * self.flip
        return f"Training images are {' and '.join(ways)}, each anew." if ways else ""

    def __str__(self) -> str:
        """Return it as the command line spells it."""
        shift = f"shift{self.shift}" if self.shift > 1 else "shift"
        return ",".join([shift] * bool(self.shift) + ["flip"] * self.flip) or "none"


NONE = Augmentation()
SHIFT = Augmentation(shift=1)


def parse_augment(text: str) -> Augmentation | None:
    """Parse ``"auto"``, which is None, ``"none"``, or names such as ``"shift4,flip"``.

    Raises:
        RecipeError: a name is not known, given twice, or shifts by nothing or too far.
    """
    names = [name.strip().lower() for name in text.split(",")]
    if names in (["auto"], ["none"]):
        return None if names == ["auto"] else NONE
    shift, flip = 0, False
    for name in names:
        match = _SHIFT.fullmatch(name)
        if name in ("auto", "none") or (match and shift) or (name == "flip" and flip):
            raise RecipeError(f"augment: {name} does not go together with the rest of {text!r}", hint=AUGMENT_HINT)
        if match:
            shift = int(match[1] or 1)
            if not 1 <= shift <= LARGEST_SHIFT:
                raise RecipeError(f"augment: {name} must shift by 1 to {LARGEST_SHIFT} pixels", hint=AUGMENT_HINT)
        elif name == "flip":
            flip = True
        else:
            raise RecipeError(f"augment: {name!r} is not known; {nearest(name, _NAMES)}", hint=AUGMENT_HINT)
    return Augmentation(shift, flip)
