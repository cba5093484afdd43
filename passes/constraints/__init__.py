"""Constraint sets, one family per file."""

from passes.constraints.levels import Levels, LevelTarget, levels_for
from passes.constraints.sparsity import SCORES, Budget, TopK, progressive

__all__ = ["SCORES", "Budget", "LevelTarget", "Levels", "TopK", "levels_for", "progressive"]
