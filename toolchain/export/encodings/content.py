"""What an encoding stores."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from toolchain.export.builder import Builder


@dataclass(frozen=True, eq=False)
class Content:
    """One constant tensor to be written.

    Attributes:
        array: float32, int8 or uint8.
        background: the value that is everywhere but at the kept positions, 0 or a zero point.
        floats: whether int8 or uint8 values are wanted as float32.
    """

    array: np.ndarray
    background: int = 0
    floats: bool = False

    @property
    def fill(self) -> np.ndarray:
        """The background as a vector of one element of the array's type."""
        return np.array([self.background], self.array.dtype)

    def kept(self, array: np.ndarray) -> np.ndarray:
        """Return where an array of these values is not the background; -0.0 is not, its sign is to come back."""
        found: np.ndarray = array != self.background
        return found | np.signbit(array) if array.dtype == np.float32 else found


# Adds a content under a name, by whatever encoding takes the fewest bytes, which it returns.
Inner = Callable[[Builder, Content, str], str]
