"""Constraint sets, one family per file."""

from passes.constraints.budget import Budget, progressive
from passes.constraints.channels import channels_per_step
from passes.constraints.levels import Levels, LevelTarget, level_target
from passes.constraints.scores import SCORES, Cut
from passes.constraints.sparsity import TopK

__all__ = [
    "SCORES",
    "Budget",
    "Cut",
    "LevelTarget",
    "Levels",
    "TopK",
    "channels_per_step",
    "level_target",
    "progressive",
]
