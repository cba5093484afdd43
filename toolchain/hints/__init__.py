"""Hints that are measured before they are printed: what else would make this model faster on this machine."""

from toolchain.hints.alternatives import Original
from toolchain.hints.trials import try_alternatives

__all__ = ["Original", "try_alternatives"]
